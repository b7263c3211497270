//! The simulated GitHub's stand-in runner as a program of its own, for the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    runner_manager_github_sim::stand_in_main().unwrap_or_else(|| {
        eprintln!("start this as `Runner.Listener` or `Runner.Worker`, from a runner folder");
        ExitCode::from(2)
    })
}
