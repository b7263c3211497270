//! The tools that the checks need, and what to install where one is missing.

use crate::failure::{Failure, Result};
use crate::process;
use std::path::Path;
use std::process::Command;

/// A tool that must be there beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tool {
    Rustfmt,
    Clippy,
    CCompiler,
}

/// Fails with what to install unless the tool answers.
pub(crate) fn require(root: &Path, tool: Tool) -> Result<()> {
    let mut probe = match tool {
        Tool::Rustfmt => cargo(root, "fmt"),
        Tool::Clippy => cargo(root, "clippy"),
        Tool::CCompiler => Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into())),
    };
    let answer = process::capture(probe.arg("--version"));
    if answer.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    Err(Failure::new(advice(tool)))
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
    }
}
