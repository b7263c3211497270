//! The faults of the suite, as the proxy and the machines bring them about.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use runner_manager_conformance::{Cannot, Fault};
use runner_manager_core::NamePrefix;
use rustix::process::Signal;

use crate::harness::{Ec2Harness, Way};
use crate::machines::Machines;
use crate::proxy::{Rule, What};

const SSH: [&str; 1] = ["sshd"];

/// What ends a fault that the proxy does not end.
pub(crate) enum Undo {
    /// The proxy does.
    Nothing,
    /// These keys are let in again.
    Keys(Vec<PathBuf>),
    /// These machines' SSH servers are started again.
    Start(Vec<String>),
    /// These machines' SSH servers go on.
    Continue(Vec<String>),
}

impl Undo {
    pub(crate) fn undo(self, machines: &Machines) {
        match self {
            Self::Nothing => {}
            Self::Keys(files) => {
                for file in files {
                    // A machine that is gone needs none.
                    let _ = std::fs::rename(file.with_extension("kept"), file);
                }
            }
            Self::Start(instances) => instances.iter().for_each(|i| machines.start_ssh(i)),
            Self::Continue(instances) => {
                instances
                    .iter()
                    .for_each(|i| machines.signal(i, &SSH, Signal::CONT));
            }
        }
    }
}

/// What EC2 says to a launch or an end that it does not like, and that no repetition heals.
const NO: What = What::Refuse(400, "OperationNotPermitted");

pub(crate) async fn plant(
    harness: &Ec2Harness,
    prefix: &NamePrefix,
    fault: Fault,
) -> Result<Undo, Cannot> {
    let proxy = &harness.site.proxy;
    let plant = |rule| {
        proxy.plant(prefix.as_str(), rule);
        Ok(Undo::Nothing)
    };
    let after = What::AfterEffect(400, "OperationNotPermitted");
    match fault {
        // By then the runner's keys are made.
        Fault::Launch | Fault::LaunchMidway => plant(Rule::of("RunInstances", NO).times(1)),
        Fault::LaunchAfterEffect => plant(Rule::of("RunInstances", after).times(1)),
        Fault::LaunchHangs => plant(Rule::of("RunInstances", What::HangAfterEffect).times(1)),
        Fault::Quota => plant(Rule::of(
            "RunInstances",
            What::Refuse(400, "VcpuLimitExceeded"),
        )),
        Fault::Terminate => plant(Rule::of("TerminateInstances", What::RefuseOne).times(1)),
        Fault::TerminateMidway => Err(Cannot(
            "one call of EC2 ends an instance with all that belongs to it",
        )),
        Fault::TerminateAfterEffect => plant(Rule::of("TerminateInstances", after).times(1)),
        Fault::List => {
            let refused = What::Refuse(403, "UnauthorizedOperation");
            plant(Rule::of("DescribeInstances", refused))
        }
        Fault::ListTruncated => {
            proxy.truncate(prefix.as_str());
            Ok(Undo::Nothing)
        }
        Fault::ListStale => {
            proxy.freeze(prefix.as_str()).await;
            Ok(Undo::Nothing)
        }
        Fault::Throttle => plant(Rule::of("", What::Refuse(503, "RequestLimitExceeded"))),
        Fault::Down => plant(Rule::of("", What::Refuse(500, "InternalError"))),
        Fault::Hang => plant(Rule::of("", What::Hang)),
        Fault::Guest if harness.way == Way::Ssm => {
            let refused = What::Refuse(400, "AccessDeniedException");
            plant(Rule::of("SendCommand", refused))
        }
        Fault::GuestUnreachable if harness.way == Way::Ssm => {
            let absent = What::Refuse(400, "InvalidInstanceId");
            plant(Rule::of("SendCommand", absent))
        }
        Fault::GuestHangs if harness.way == Way::Ssm => {
            plant(Rule::of("GetCommandInvocation", What::Hang))
        }
        Fault::Guest => Ok(Undo::Keys(lock_out(harness, prefix).await)),
        Fault::GuestUnreachable => {
            let instances = harness.of_prefix(prefix);
            booted(harness, &instances).await;
            for instance in &instances {
                harness.machines.signal(instance, &SSH, Signal::KILL);
            }
            Ok(Undo::Start(instances))
        }
        Fault::GuestHangs => {
            let instances = harness.of_prefix(prefix);
            booted(harness, &instances).await;
            for instance in &instances {
                harness.machines.signal(instance, &SSH, Signal::STOP);
            }
            Ok(Undo::Continue(instances))
        }
    }
}

/// Takes the manager's keys away from the machines, and ends the connections that it has.
async fn lock_out(harness: &Ec2Harness, prefix: &NamePrefix) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for instance in harness.of_prefix(prefix) {
        let Some(root) = harness.machines.root(&instance) else {
            continue;
        };
        let file = root.join("home/ubuntu/.ssh/authorized_keys");
        // A machine that boots has none yet.
        let end = Instant::now() + Duration::from_secs(60);
        while std::fs::rename(&file, file.with_extension("kept")).is_err() {
            assert!(
                Instant::now() < end,
                "the machine does not boot: {}",
                file.display()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        files.push(file);
        harness.machines.signal(&instance, &SSH, Signal::KILL);
        harness.machines.start_ssh(&instance);
    }
    files
}

/// Waits until the SSH servers of machines run.
async fn booted(harness: &Ec2Harness, instances: &[String]) {
    let end = Instant::now() + Duration::from_secs(60);
    for instance in instances {
        let runs = || {
            harness
                .machines
                .processes(instance)
                .iter()
                .any(|(_, name)| name == "sshd")
        };
        while !runs() {
            assert!(
                Instant::now() < end,
                "the machine of {instance} does not boot"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
