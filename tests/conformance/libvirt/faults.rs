//! Which calls a fault concerns, and what becomes of them.

use runner_manager_conformance::Fault;

use crate::rpc::Procedure;

/// What the proxy does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Pass,
    /// With a code of `virErrorNumber`.
    Refuse(u32, &'static str),
    Hang,
    /// It takes effect; the answer is an error.
    ThenRefuse,
    /// It takes effect, and no answer comes.
    ThenHang,
    Halve,
    Stale,
}

/// `VIR_ERR_INTERNAL_ERROR`.
pub(crate) const BROKEN: Action = Action::Refuse(1, "internal error: something is broken here");

/// What QEMU says, in libvirt's frame, where a host has no memory left.
const FULL: Action = Action::Refuse(
    1,
    "internal error: process exited while connecting to monitor: cannot set up guest memory \
     'pc.ram': Cannot allocate memory",
);

/// What a fault does to a call, and whether it is over then; `None` when it does not concern
/// this one.
fn effect(fault: Fault, call: Procedure) -> Option<(Action, bool)> {
    const ONCE: bool = true;
    let hit = |wanted: &[Procedure], action, once| wanted.contains(&call).then_some((action, once));
    let create = [Procedure::CreateDomain];
    let lists = [Procedure::AllDomainStats, Procedure::ListAllDomains];
    let stats = [Procedure::AllDomainStats];
    let agent = [Procedure::AgentCommand];
    match fault {
        Fault::Launch => hit(&[Procedure::CreateVolume], BROKEN, ONCE),
        Fault::LaunchMidway => hit(&create, BROKEN, ONCE),
        Fault::LaunchAfterEffect => hit(&create, Action::ThenRefuse, ONCE),
        Fault::LaunchHangs => hit(&create, Action::ThenHang, ONCE),
        Fault::Quota => hit(&create, FULL, !ONCE),
        Fault::Terminate => hit(&[Procedure::DestroyDomain], BROKEN, ONCE),
        Fault::TerminateMidway => hit(&[Procedure::DeleteVolume], BROKEN, ONCE),
        Fault::TerminateAfterEffect => hit(&[Procedure::DestroyDomain], Action::ThenRefuse, ONCE),
        Fault::List => hit(&lists, BROKEN, !ONCE),
        Fault::ListTruncated => hit(&stats, Action::Halve, !ONCE),
        Fault::ListStale => hit(&stats, Action::Stale, !ONCE),
        // See the harness: no daemon of libvirt says so.
        Fault::Throttle => None,
        Fault::Down => Some((BROKEN, !ONCE)),
        Fault::Hang => Some((Action::Hang, !ONCE)),
        // VIR_ERR_ACCESS_DENIED, VIR_ERR_AGENT_UNRESPONSIVE.
        Fault::Guest => hit(&agent, Action::Refuse(88, "access denied"), !ONCE),
        Fault::GuestUnreachable => {
            let words = "Guest agent is not responding: QEMU guest agent is not connected";
            hit(&agent, Action::Refuse(86, words), !ONCE)
        }
        Fault::GuestHangs => hit(&agent, Action::Hang, !ONCE),
    }
}

/// What becomes of a call; a fault that happens once is then over.
pub(crate) fn action(faults: &mut Vec<Fault>, call: Procedure) -> Action {
    let found = faults.iter().enumerate();
    let found = found.filter_map(|(at, fault)| Some((at, effect(*fault, call)?)));
    let Some((at, (action, once))) = found.into_iter().next() else {
        return Action::Pass;
    };
    if once {
        faults.remove(at);
    }
    action
}
