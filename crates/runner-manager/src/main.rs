//! Keeps fleets of ephemeral self-hosted GitHub Actions runners at the right size.

use std::process::ExitCode;

fn main() -> ExitCode {
    runner_manager::main(&[])
}
