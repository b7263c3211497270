//! The program with each feature alone, and with none.

use crate::failure::{Failure, Result};
use crate::process;
use crate::scope::Scope;
use crate::tools::{self, Tool};
use crate::workspace::{self, PROGRAM};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The feature whose dependencies take minutes. It is linted with what the whole workspace asks of
/// them, so that they are not compiled once more.
const HEAVY: &str = "ec2";

/// Lints the program with each of its features alone, and with none; and compares the features of
/// dependencies between the scopes.
///
/// Clippy rather than `cargo check`: it reuses what the step before it has built, and code that
/// one feature leaves unused is then an error.
pub(crate) fn check(root: &Path) -> Result<()> {
    tools::require(root, Tool::Clippy)?;
    tools::for_scope(root, Scope::All)?;
    compare_scopes(root)?;
    for feature in workspace::features(root)? {
        process::stream(&mut clippy(root, Some(&feature))).map_err(|failure| {
            Failure::new(format!("with feature `{feature}` alone: {failure}"))
        })?;
    }
    check_without(root)
}

/// A dependency that one scope builds with other features than the other is built twice, and so is
/// everything that depends on it.
fn compare_scopes(root: &Path) -> Result<()> {
    let [hermetic, all] = [Scope::Hermetic, Scope::All].map(|scope| dependencies(root, scope));
    let twice = differences(&hermetic?, &all?);
    if twice.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the checks would build these twice; ask for all of their features in the dev-dependencies of crates/runner-manager:\n{}",
        twice.join("\n")
    )))
}

/// The dependencies of a scope, each with its features, as cargo prints them.
fn dependencies(root: &Path, scope: Scope) -> Result<String> {
    let mut tree = process::cargo(root);
    tree.args(["tree", "--locked", "--edges", "normal,build,dev"]);
    tree.args(["--prefix", "none", "--format", "{p} [{f}]"]);
    process::stdout(tree.args(scope.arguments(root)?))
}

/// The dependencies that both have, and with other features. Those in a folder are of the
/// workspace.
fn differences(hermetic: &str, all: &str) -> Vec<String> {
    let all: BTreeSet<&str> = all.lines().filter_map(dependency).collect();
    let names: BTreeSet<&str> = all
        .iter()
        .filter_map(|line| line.split(" [").next())
        .collect();
    let hermetic: BTreeSet<&str> = hermetic.lines().filter_map(dependency).collect();
    let is_other = |line: &&&str| {
        let name = line.split(" [").next().unwrap_or(line);
        names.contains(name) && !all.contains(**line)
    };
    hermetic
        .iter()
        .filter(is_other)
        .map(|line| (*line).to_owned())
        .collect()
}

fn dependency(line: &str) -> Option<&str> {
    let line = line.strip_suffix(" (*)").unwrap_or(line);
    (line.contains(" [") && !line.contains('/')).then_some(line)
}

/// With no feature there is no backend. The program may say so when it runs, or refuse to be
/// compiled, but in words that name the way out.
fn check_without(root: &Path) -> Result<()> {
    let mut command = clippy(root, None);
    println!("$ {}", process::line(&command));
    let output = process::capture(&mut command)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if output.status.success() || is_refusal(&errors) {
        return Ok(());
    }
    eprint!("{errors}");
    Err(Failure::new(
        "without features the program neither builds nor says with `compile_error!` which `--features` to choose",
    ))
}

fn clippy(root: &Path, feature: Option<&str>) -> Command {
    let mut command = process::cargo(root);
    command.args(["clippy", "--no-default-features"]);
    command.args(match feature {
        Some(HEAVY) => &["--workspace", "--all-targets"][..],
        _ => &["--package", PROGRAM],
    });
    if let Some(feature) = feature {
        command.args(["--features", &format!("{PROGRAM}/{feature}")]);
    }
    command.args(["--", "-D", "warnings"]);
    command
}

/// Whether the only errors are messages of `compile_error!` that name the way out.
fn is_refusal(errors: &str) -> bool {
    let mut messages = errors
        .lines()
        .filter_map(|line| line.strip_prefix("error"))
        .filter(|message| !message.starts_with(": could not compile"))
        .peekable();
    messages.peek().is_some()
        && messages.all(|message| message.starts_with(": ") && message.contains("--features"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: &str = "error: no backend is compiled in; rebuild with `--features process`\n \
                           --> src/main.rs:1:1\nerror: could not compile `runner-manager`\n";

    #[test]
    fn dependencies_with_other_features_are_found() {
        let hermetic = "a v1 [x]\nb v1 [] (*)\nc v1 []\nours v1 (/x/crates/ours) [a]\n";
        let all = "a v1 [x,y]\nb v1 []\nd v1 []\nours v1 (/x/crates/ours) [b]\n";
        assert_eq!(differences(hermetic, all), ["a v1 [x]"]);
        assert!(differences(all, all).is_empty());
    }

    #[test]
    fn a_refusal_names_the_features_to_choose() {
        assert!(is_refusal(REFUSAL));
    }

    #[test]
    fn other_errors_are_no_refusal() {
        assert!(!is_refusal("error[E0432]: unresolved import\n"));
        assert!(!is_refusal("error: unused import: `x`\n"));
        assert!(!is_refusal(&format!(
            "{REFUSAL}error[E0432]: unresolved import\n"
        )));
        assert!(!is_refusal("warning: nothing\n"));
        assert!(!is_refusal(""));
    }
}
