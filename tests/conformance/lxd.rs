//! The conformance suite against a real LXD or Incus, and what else only a server can show.
//!
//! `tests/peers/lxd` and `tests/peers/incus` start one; `PEER_KIND` says which.

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

/// What neither kind of server can bring about.
const WAIVERS: &str = include_str!("../peers/lxd/waivers.toml");

fn main() -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(LxdHarness::new());
    runner_manager_conformance::main(&harness, WAIVERS)
}
