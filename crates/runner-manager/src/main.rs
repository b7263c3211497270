//! Keeps fleets of ephemeral self-hosted GitHub Actions runners at the right size.

mod backends;
mod cli;
mod config;
mod list;
mod logs;
mod run;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
