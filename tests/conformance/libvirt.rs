//! The conformance suite against real libvirt daemons with real guests.
//!
//! `tests/peers/libvirt` starts them.

#[path = "libvirt/faults.rs"]
mod faults;
#[path = "libvirt/guest.rs"]
mod guest;
#[path = "libvirt/harness.rs"]
mod harness;
#[path = "libvirt/proxy.rs"]
mod proxy;
#[path = "libvirt/rpc.rs"]
mod rpc;
#[path = "libvirt/site.rs"]
mod site;
#[path = "libvirt/states.rs"]
mod states;

use std::process::ExitCode;
use std::sync::Arc;

use runner_manager_conformance::Harness;

use harness::LibvirtHarness;

const WAIVERS: &str = include_str!("../peers/libvirt/waivers.toml");

fn main() -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(LibvirtHarness::new());
    runner_manager_conformance::main(&harness, WAIVERS)
}
