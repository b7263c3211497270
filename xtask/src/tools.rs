//! The tools that the checks need, and what to install where one is missing.

use crate::failure::{Failure, Result};
use crate::scope::Scope;
use crate::{peers, process};
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// A tool that must be there beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    Rustfmt,
    Clippy,
    CCompiler,
    /// Fetches GitHub's description of its API for the tests.
    Npm,
}

/// What programs that use libvirt need in their environment, once [`for_scope`] has found it.
static LIBVIRT: OnceLock<Vec<(String, OsString)>> = OnceLock::new();

/// Provides the tools beside Rust that build a part of the workspace.
pub(crate) fn for_scope(root: &Path, scope: Scope) -> Result<()> {
    require(root, Tool::CCompiler)?;
    if scope == Scope::All && LIBVIRT.get().is_none() {
        let found = peers::headers(root).map_err(Failure::because(NO_LIBVIRT))?;
        // Another thread has found the same.
        let _ = LIBVIRT.set(found);
    }
    Ok(())
}

/// The environment of builds with libvirt, and of the programs that they link; empty before
/// [`for_scope`] was asked for it.
pub(crate) fn environment() -> impl Iterator<Item = (&'static String, &'static OsString)> {
    let found = LIBVIRT.get().into_iter().flatten();
    found.map(|(name, value)| (name, value))
}

/// Fails with what to install unless the tool answers.
pub(crate) fn require(root: &Path, tool: Tool) -> Result<()> {
    let mut probe = match tool {
        Tool::Rustfmt => cargo(root, "fmt"),
        Tool::Clippy => cargo(root, "clippy"),
        Tool::CCompiler => Command::new(compiler(std::env::var("CC").ok().as_deref())),
        Tool::Npm => Command::new("npm"),
    };
    let answer = process::capture(probe.arg("--version"));
    if answer.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    Err(Failure::new(advice(tool)))
}

const NO_LIBVIRT: &str = "libvirt's headers are missing, and the backend `libvirt` is built with all features; on Debian 12 install them with `apt-get install libvirt-dev pkg-config`";

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
