//! The demo, run several times, and the medians of what it measured; then how fast the fleet follows
//! demand, within one process and as whole processes.

mod report;
mod stages;

use crate::failure::{Failure, Result};
use crate::process;
use crate::workspace::PROGRAM;
use report::Run;
use std::num::NonZeroU32;
use std::path::Path;

/// Where the bench of the fleet is.
const SERVER: &str = "runner-manager-server";

/// Builds the program for release, runs its demo `runs` times and prints the tables; then runs the
/// benches of the fleet and of whole processes, which print their own figures.
pub(crate) fn run(root: &Path, runs: NonZeroU32, jobs: NonZeroU32) -> Result<()> {
    process::stream(process::cargo(root).args(["build", "--release", "--package", PROGRAM]))?;
    let mut done = Vec::new();
    for number in 1..=runs.get() {
        println!("run {number} of {runs}, {jobs} jobs");
        let printed = process::stdout(&mut demo(root, jobs))?;
        let run = Run::parse(&printed)
            .map_err(|failure| Failure::new(format!("run {number}: {failure}")))?;
        done.push(run);
    }
    println!("\n{}\n{}", report::runs(&done), report::stages(&done)?);
    process::stream(process::cargo(root).args(["bench", "--package", SERVER, "--bench", "fleet"]))?;
    process::stream(process::cargo(root).args(["bench", "--package", PROGRAM, "--bench", "whole"]))
}

fn demo(root: &Path, jobs: NonZeroU32) -> std::process::Command {
    let mut command = process::cargo(root);
    command.args(["run", "--quiet", "--release", "--package", PROGRAM, "--"]);
    command.args(["demo", "--json", "--jobs", &jobs.to_string()]);
    command
}
