//! Formatting, lints and tests.

use crate::executables::{self, Targets};
use crate::failure::{Failure, Result};
use crate::process::{self, TestTime};
use crate::scope::{self, Scope};
use crate::table;
use crate::tools::{self, Tool};
use std::path::Path;

/// Checks that all code is formatted.
pub(crate) fn format(root: &Path) -> Result<()> {
    tools::require(root, Tool::Rustfmt)?;
    process::stream(process::cargo(root).args(["fmt", "--all", "--check"]))
        .map_err(|failure| Failure::new(format!("{failure}; `cargo fmt --all` formats the code")))
}

/// Checks that clippy has no warning about any target.
pub(crate) fn lint(root: &Path, scope: Scope) -> Result<()> {
    tools::require(root, Tool::Clippy)?;
    tools::for_scope(root, scope)?;
    // The second takes in the tests that need a server, which `--all-targets` leaves out.
    let integration = scope.integration_tests(root)?;
    for targets in [&["--all-targets".to_owned()][..], &integration] {
        let mut clippy = process::cargo(root);
        clippy.args(["clippy", "--locked"]);
        clippy.args(scope.arguments(root)?).args(targets);
        process::stream(clippy.args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// Runs all tests that need neither a server nor the network.
pub(crate) fn test(root: &Path) -> Result<()> {
    let times = executables::build_and_run(root, Scope::Hermetic)?;
    let mut doc = process::cargo(root);
    doc.args(["test", "--locked", "--doc"]);
    process::test(doc.args(Scope::Hermetic.arguments(root)?))?;
    println!("{}", slowest(times));
    Ok(())
}

/// Clippy, documentation and tests of the parts that the hermetic steps leave out.
pub(crate) fn all_features(root: &Path) -> Result<()> {
    lint(root, Scope::All)?;
    super::docs::build(root, Scope::All)?;
    tools::require(root, Tool::Npm)?;
    let mut tests = executables::build(root, Scope::All, Targets::Default)?;
    tests.retain(scope::is_left_out);
    let times = executables::run(&tests)?;
    println!("{}", slowest(times));
    Ok(())
}

/// A table of the ten slowest tests.
fn slowest(mut times: Vec<TestTime>) -> String {
    times.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    times.truncate(10);
    let rows: Vec<Vec<String>> = times
        .into_iter()
        .map(|time| vec![time.name, format!("{:.1} s", time.seconds)])
        .collect();
    format!("\n{}", table::render(&["slowest tests", "time"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_slowest_tests_come_first() {
        let time = |number: u32| TestTime {
            name: format!("t{number}"),
            seconds: f64::from(number),
        };
        let table = slowest((0..20).map(time).collect());
        let rows: Vec<&str> = table.lines().skip(3).collect();
        assert_eq!(rows.len(), 10);
        assert!(rows[0].starts_with("t19"), "{table}");
    }
}
