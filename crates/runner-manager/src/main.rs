//! Keeps fleets of ephemeral self-hosted GitHub Actions runners at the right size.

mod backends;
mod cli;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod logs;
mod operate;
mod render;
mod run;
mod services;
mod shell;
mod watch;
mod webhook;
mod why;

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "demo")]
    if let Some(code) = runner_manager_github_sim::stand_in_main() {
        return code;
    }
    cli::main()
}
