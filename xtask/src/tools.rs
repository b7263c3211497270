//! The tools that the checks need, and what to install where one is missing.

use crate::failure::{Failure, Result};
use crate::process;
use crate::scope::Scope;
use std::path::Path;
use std::process::Command;

/// A tool that must be there beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    Rustfmt,
    Clippy,
    CCompiler,
    /// Fetches GitHub's description of its API for the tests.
    Npm,
    /// The headers and the library that the backend `libvirt` is built on.
    Libvirt,
}

/// Installs Debian packages where the tool is missing and this user may; fails with what to
/// install otherwise.
pub(crate) fn provide(root: &Path, tool: Tool, packages: &[&str]) -> Result<()> {
    let missing = require(root, tool);
    if missing.is_ok() || !rustix::process::geteuid().is_root() || !has_apt() {
        return missing;
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
        apt
    };
    process::stream(apt().arg("update"))?;
    process::stream(
        apt()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )?;
    require(root, tool)
}

fn has_apt() -> bool {
    process::capture(Command::new("apt-get").arg("--version")).is_ok()
}

/// Provides the tools beside Rust that build a part of the workspace.
pub(crate) fn for_scope(root: &Path, scope: Scope) -> Result<()> {
    require(root, Tool::CCompiler)?;
    match scope {
        Scope::Hermetic => Ok(()),
        Scope::All => provide(root, Tool::Libvirt, &["libvirt-dev", "pkg-config"]),
    }
}

/// Fails with what to install unless the tool answers.
pub(crate) fn require(root: &Path, tool: Tool) -> Result<()> {
    let mut probe = match tool {
        Tool::Rustfmt => cargo(root, "fmt"),
        Tool::Clippy => cargo(root, "clippy"),
        Tool::CCompiler => Command::new(compiler(std::env::var("CC").ok().as_deref())),
        Tool::Npm => Command::new("npm"),
        Tool::Libvirt => {
            let mut ask = Command::new("pkg-config");
            ask.arg("libvirt");
            ask
        }
    };
    // `pkg-config` says the version of what it is asked about.
    let question = match tool {
        Tool::Libvirt => "--modversion",
        Tool::Rustfmt | Tool::Clippy | Tool::CCompiler | Tool::Npm => "--version",
    };
    let answer = process::capture(probe.arg(question));
    if answer.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    Err(Failure::new(advice(tool)))
}

/// The program that `$CC` names. It may hold a wrapper or flags too (`ccache gcc`, `gcc -m64`).
fn compiler(cc: Option<&str>) -> &str {
    cc.and_then(|cc| cc.split_whitespace().next())
        .unwrap_or("cc")
}

fn cargo(root: &Path, subcommand: &str) -> Command {
    let mut command = process::cargo(root);
    command.arg(subcommand);
    command
}

fn advice(tool: Tool) -> &'static str {
    match tool {
        Tool::Rustfmt => "rustfmt is missing; install it with `rustup component add rustfmt`",
        Tool::Clippy => "clippy is missing; install it with `rustup component add clippy`",
        Tool::CCompiler => {
            "no C compiler answers as `cc` (or as $CC); on Debian 12 install it with `apt-get install build-essential`"
        }
        Tool::Npm => {
            "npm is missing, and the tests fetch GitHub's API description with it; on Debian 12 install it with `apt-get install npm`"
        }
        Tool::Libvirt => {
            "libvirt's headers are missing, and the backend `libvirt` is built with all features; on Debian 12 install them with `apt-get install libvirt-dev pkg-config`"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_is_the_first_word_of_cc() {
        assert_eq!(compiler(None), "cc");
        assert_eq!(compiler(Some(" ")), "cc");
        assert_eq!(compiler(Some("gcc -m64")), "gcc");
    }
}
