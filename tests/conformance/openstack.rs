//! The conformance suite against a real OpenStack.

#![expect(clippy::expect_used, reason = "a test")]

#[path = "openstack/harness.rs"]
mod harness;
#[path = "openstack/machine.rs"]
mod machine;
#[path = "openstack/proxy.rs"]
#[expect(
    dead_code,
    reason = "the storm counts calls by kind, and this does not"
)]
mod proxy;
#[path = "openstack/site.rs"]
mod site;

use std::process::ExitCode;
use std::sync::Arc;

use runner_manager_conformance::Harness;

use harness::OpenstackHarness;

const WAIVERS: &str = include_str!("../peers/openstack/waivers.toml");

fn main() -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(OpenstackHarness::new());
    runner_manager_conformance::main(&harness, WAIVERS)
}
