//! The conformance suite against a real LXD, or whatever server of its kind the environment names.
//!
//! `tests/peers/lxd` starts one; `PEER_KIND` says which it is.

#[path = "lxd/faults.rs"]
mod faults;
#[path = "lxd/guest.rs"]
mod guest;
#[path = "lxd/harness.rs"]
mod harness;
#[path = "lxd/proxy.rs"]
mod proxy;
#[path = "lxd/server.rs"]
mod server;
#[path = "lxd/states.rs"]
mod states;

use std::process::ExitCode;
use std::sync::Arc;

use runner_manager_conformance::Harness;

use harness::LxdHarness;

/// What the peer cannot bring about.
const WAIVERS: &str = include_str!("../peers/lxd/waivers.toml");

fn main() -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(LxdHarness::new());
    runner_manager_conformance::main(&harness, WAIVERS)
}
