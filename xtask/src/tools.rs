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
        Tool::CCompiler => Command::new(compiler(std::env::var("CC").ok().as_deref())),
    };
    let answer = process::capture(probe.arg("--version"));
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
