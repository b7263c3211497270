//! The conformance suite against real processes of this machine.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "process/exposed.rs"]
mod exposed;
#[path = "process/faults.rs"]
mod faults;
#[path = "process/files.rs"]
mod files;
#[path = "process/harness.rs"]
mod harness;
#[path = "process/jobs.rs"]
mod jobs;
#[path = "process/lists.rs"]
mod lists;
#[path = "process/site.rs"]
mod site;
#[path = "process/states.rs"]
mod states;

use std::process::ExitCode;
use std::sync::Arc;

use runner_manager_conformance::Harness;

use harness::ProcessHarness;

const WAIVERS: &str = include_str!("../peers/process/waivers.toml");
/// Waivers for cases that only root can bring about.
const WITHOUT_ROOT: &str = include_str!("../peers/process/waivers-without-root.toml");

/// Whether runners get users and cgroups of their own.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn main() -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(ProcessHarness::new());
    let mut waivers = WAIVERS.to_owned();
    if !is_root() {
        waivers.push_str(WITHOUT_ROOT);
    }
    runner_manager_conformance::main(&harness, &waivers)
}
