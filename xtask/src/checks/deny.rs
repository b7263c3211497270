//! `cargo deny`, at one version, installed into the target folder on first use.

use crate::failure::{Failure, Result};
use crate::{process, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "0.20.2";

/// Checks licences, bans and sources as `deny.toml` has them.
///
/// Advisories are left out: their database comes from the network and changes under a fixed tree.
pub(crate) fn check(root: &Path) -> Result<()> {
    let program = provide(root)?;
    // The check itself is offline, and looks at the crates of other platforms too.
    process::stream(process::cargo(root).args(["fetch", "--quiet", "--locked"]))?;
    let mut command = Command::new(&program);
    command.current_dir(root).args([
        "--offline",
        "--locked",
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]);
    process::stream(&mut command)
}

/// The program, installed where it is missing.
pub(crate) fn provide(root: &Path) -> Result<PathBuf> {
    let tools = workspace::target(root).join("tools");
    let program = tools.join("bin").join("cargo-deny");
    if !is_current(&program) {
        install(root, &tools)?;
    }
    Ok(program)
}

fn is_current(program: &Path) -> bool {
    process::capture(Command::new(program).arg("--version"))
        .is_ok_and(|output| names_version(&String::from_utf8_lossy(&output.stdout)))
}

fn names_version(answer: &str) -> bool {
    answer.split_whitespace().last() == Some(VERSION)
}

/// Builds without optimization: its release profile takes many times longer, and it runs for
/// seconds.
fn install(root: &Path, tools: &Path) -> Result<()> {
    println!("cargo-deny {VERSION} is not there yet, and is built once");
    let build = tools.join("build");
    let mut command = process::cargo(root);
    command
        .args(["install", "--locked", "--quiet", "--debug", "--force"])
        // Other steps compile meanwhile.
        .args(["--jobs", "1"])
        .args(["cargo-deny", "--version", VERSION])
        .arg("--root")
        .arg(tools)
        .arg("--target-dir")
        .arg(&build)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    process::stream(&mut command).map_err(|failure| {
        Failure::new(format!(
            "{failure}; it needs the crates registry once, `--only` runs the other steps without it"
        ))
    })?;
    fs::remove_dir_all(&build).map_err(Failure::because(format!(
        "cannot remove the build folder {}",
        build.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_not_taken_for_ours() {
        assert!(names_version(&format!("cargo-deny {VERSION}\n")));
        assert!(!names_version("cargo-deny 0.1.0\n"));
        assert!(!names_version(&format!("cargo-deny {VERSION}1\n")));
        assert!(!names_version(""));
    }
}
