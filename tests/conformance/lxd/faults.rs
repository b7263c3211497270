//! Which requests a fault concerns, and what becomes of them.

use hyper::Method;
use runner_manager_conformance::{Cannot, Did, Fault};

/// What the proxy does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Pass,
    Refuse(u16, &'static str),
    Hang,
    /// It takes effect, to its end; the answer is an error.
    ThenRefuse,
    /// It takes effect, and no answer comes.
    ThenHang,
    Halve,
    Stale,
}

const BROKEN: Action = Action::Refuse(500, "something is broken here");

struct Kind {
    is_create: bool,
    is_stop: bool,
    is_delete: bool,
    is_volume_delete: bool,
    is_exec: bool,
    is_list: bool,
}

impl Kind {
    fn of(method: &Method, path: &str, is_list: bool) -> Self {
        let instance = path.strip_prefix("/1.0/instances/");
        let is = |wanted: Method| *method == wanted;
        Self {
            is_create: is(Method::POST) && path == "/1.0/instances",
            // A launch starts what it made in the same way; the faults of removals are planted
            // when nothing is launched.
            is_stop: is(Method::PUT) && instance.is_some_and(|rest| rest.ends_with("/state")),
            is_delete: is(Method::DELETE) && instance.is_some_and(|rest| !rest.contains('/')),
            is_volume_delete: is(Method::DELETE) && path.starts_with("/1.0/storage-pools/"),
            is_exec: is(Method::POST) && instance.is_some_and(|rest| rest.ends_with("/exec")),
            is_list,
        }
    }
}

/// What a fault does to a request, and whether it is over then; `None` when it does not concern
/// this one.
fn effect(fault: Fault, kind: &Kind) -> Option<(Action, bool)> {
    const ONCE: bool = true;
    let hit = |is: bool, action: Action, once: bool| is.then_some((action, once));
    match fault {
        Fault::Launch | Fault::LaunchMidway => hit(kind.is_create, BROKEN, ONCE),
        Fault::LaunchAfterEffect => hit(kind.is_create, Action::ThenRefuse, ONCE),
        Fault::LaunchHangs => hit(kind.is_create, Action::ThenHang, ONCE),
        Fault::Terminate => hit(kind.is_stop || kind.is_delete, BROKEN, ONCE),
        Fault::TerminateMidway => hit(kind.is_volume_delete, BROKEN, ONCE),
        Fault::TerminateAfterEffect => hit(kind.is_delete, Action::ThenRefuse, ONCE),
        Fault::List => hit(kind.is_list, BROKEN, !ONCE),
        Fault::ListTruncated => hit(kind.is_list, Action::Halve, !ONCE),
        Fault::ListStale => hit(kind.is_list, Action::Stale, !ONCE),
        Fault::Throttle => hit(true, Action::Refuse(429, "too many requests"), !ONCE),
        Fault::Down => hit(true, BROKEN, !ONCE),
        Fault::Hang => hit(true, Action::Hang, !ONCE),
        Fault::Guest => hit(kind.is_exec, Action::Refuse(403, "not authorized"), !ONCE),
        Fault::GuestUnreachable => {
            let words = "LXD VM agent isn't currently running";
            hit(kind.is_exec, Action::Refuse(500, words), !ONCE)
        }
        Fault::GuestHangs => hit(kind.is_exec, Action::Hang, !ONCE),
        // The server itself refuses: see the harness.
        Fault::Quota => None,
    }
}

/// What becomes of a request; a fault that happens once is then over.
pub(crate) fn action(
    faults: &mut Vec<Fault>,
    method: &Method,
    path: &str,
    is_list: bool,
) -> Action {
    let kind = Kind::of(method, path, is_list);
    let found = faults
        .iter()
        .enumerate()
        .find_map(|(at, fault)| Some((at, effect(*fault, &kind)?)));
    match found {
        Some((at, (action, once))) => {
            if once {
                faults.remove(at);
            }
            action
        }
        None => Action::Pass,
    }
}

/// What only some servers could do.
pub(crate) const UNIQUE: Did = Err(Cannot("the server keeps names unique within a project"));
