//! The proof that what `new-backend` writes compiles, and passes nothing.

use super::run;
use crate::failure::{Failure, Result};
use crate::{process, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SCHEME: &str = "scratch";

/// Writes a backend into a copy of the tree, builds it and the program with it, and runs the
/// suite: every case must fail, because it is not written yet.
pub(crate) fn prove(root: &Path) -> Result<()> {
    println!("\n-- a backend that `new-backend` writes --");
    let copy = copy(root)?;
    run(&copy, SCHEME)?;
    process::stream(process::cargo(&copy).args(["fmt", "--all", "--check"]))?;
    // Shared, so that what does not belong to the workspace is not built again.
    let target = workspace::target(root);
    let mut build = process::cargo(&copy);
    build
        .args(["check", "--package", workspace::PROGRAM])
        .args(["--no-default-features", "--features", SCHEME])
        .env("CARGO_TARGET_DIR", &target);
    process::stream(&mut build)?;
    let mut suite = process::cargo(&copy);
    suite
        .args([
            "test",
            "--package",
            &format!("runner-manager-backend-{SCHEME}"),
        ])
        .args(["--test", &format!("conformance-{SCHEME}")])
        .env("SCRATCH_ENDPOINT", "http://127.0.0.1:9")
        .env("CARGO_TARGET_DIR", &target);
    println!("$ {}", process::line(&suite));
    let output = process::capture(&mut suite)?;
    let text = String::from_utf8_lossy(&output.stdout);
    judge(&text).map_err(|failure| {
        let errors = String::from_utf8_lossy(&output.stderr);
        Failure::new(format!("{failure}\n{text}\n{errors}"))
    })
}

/// All cases failed, and said why.
fn judge(text: &str) -> Result<()> {
    let result = text.lines().find(|line| line.starts_with("test result:"));
    let result = result.ok_or_else(|| Failure::new("the suite of the new backend did not run"))?;
    println!("{result}");
    let failed = text.matches("is not written yet").count();
    let cases = text
        .lines()
        .filter(|line| line.ends_with("... FAILED"))
        .count();
    if result.contains(" 0 passed;") && cases > 0 && failed >= cases {
        return Ok(());
    }
    Err(Failure::new(format!(
        "of a backend that does nothing, not all cases fail as not written: {result}"
    )))
}

/// Copies what is under version control, as it stands in the work tree.
fn copy(root: &Path) -> Result<PathBuf> {
    let target = workspace::target(root).join("scratch");
    let _ = fs::remove_dir_all(&target);
    let mut list = Command::new("git");
    list.current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let files = process::stdout(&mut list)?;
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (root.join(file), target.join(file));
        // A file that was removed and is not committed yet is still listed.
        if !from.is_file() {
            continue;
        }
        let attempt = || format!("cannot copy {file}");
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).map_err(Failure::because(attempt()))?;
        }
        fs::copy(&from, &to).map_err(Failure::because(attempt()))?;
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_passes_something_is_not_accepted() {
        let run = |passed: usize, failed: usize, reason: &str| {
            let lines = "test a::b ... FAILED\n".repeat(failed);
            let reasons = format!("{reason}\n").repeat(failed);
            judge(&format!(
                "{lines}{reasons}test result: FAILED. {passed} passed; {failed} failed;\n"
            ))
        };
        assert!(run(0, 3, "x is not written yet").is_ok());
        assert!(run(1, 3, "x is not written yet").is_err());
        assert!(run(0, 0, "x is not written yet").is_err());
        assert!(run(0, 3, "some other reason").is_err());
        assert!(judge("error: could not compile").is_err());
    }
}
