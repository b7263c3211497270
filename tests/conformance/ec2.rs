//! The conformance suite against moto's EC2, with a machine of namespaces behind each instance.

#[path = "ec2/exposed.rs"]
mod exposed;
#[path = "ec2/faults.rs"]
mod faults;
#[path = "ec2/harness.rs"]
mod harness;
#[path = "ec2/machines.rs"]
mod machines;
#[path = "ec2/proxy/mod.rs"]
#[expect(dead_code, reason = "the scenarios use the rest")]
mod proxy;
#[path = "ec2/site.rs"]
#[expect(dead_code, reason = "the scenarios use the rest")]
mod site;

use std::process::ExitCode;
use std::sync::Arc;

use runner_manager_conformance::Harness;

use harness::Ec2Harness;

const WAIVERS: &str = include_str!("../peers/ec2/waivers.toml");

fn main() -> ExitCode {
    // The proxy and the machines' keepers outlive the cases.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let harness: Arc<dyn Harness> = Arc::new(runtime.block_on(Ec2Harness::open()));
    runner_manager_conformance::main(&harness, WAIVERS)
}
