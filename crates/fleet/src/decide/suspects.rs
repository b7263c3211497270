//! Suspects: runners that look online and idle while a job that they match waits.
//!
//! GitHub gives such a job to any idle runner within seconds. A runner that is not given one for
//! minutes is a ghost: its program, its version, its group or GitHub itself is at fault, and it
//! would hold the queue for ever. A successor is launched beside it, and then it goes, by way of
//! GitHub's own check for a job.

use runner_manager_store::RunnerState;

use super::{Action, Order, PoolFacts, Registered, RunnerFacts, Why, progress};

/// Whether a runner holds a place without being capacity.
pub(super) fn is_suspect(r: &RunnerFacts) -> bool {
    let idle = RunnerState::Idle;
    r.suspected.is_some() && (r.state, progress(r)) == (idle, idle)
}

/// The idle runners that become suspects now: those that have waited longest, and at most one for
/// each job that waits without having one yet.
pub(super) fn new_suspects<'a>(
    pool: &PoolFacts,
    runners: &[RunnerFacts],
    idle: &[&'a RunnerFacts],
) -> Vec<&'a RunnerFacts> {
    let known = runners.iter().filter(|r| is_suspect(r)).count();
    let is_due = |r: &&RunnerFacts| {
        r.state == RunnerState::Idle
            && r.registered == Registered::Online
            && r.idle_when_seen > pool.suspect_after
    };
    let mut due: Vec<&RunnerFacts> = idle.iter().copied().filter(is_due).collect();
    due.sort_by_key(|r| std::cmp::Reverse(r.idle_when_seen));
    due.truncate(pool.stalled.saturating_sub(known));
    due
}

/// The removals of suspects that are due: at once where the pool is full, since the successor needs
/// the place; else when a runner has come online since, or has had the time to.
pub(super) fn removals<'a>(
    pool: &PoolFacts,
    runners: &'a [RunnerFacts],
    suspects: &'a [&RunnerFacts],
) -> impl Iterator<Item = Action> + 'a {
    let is_full = runners.len() >= pool.max;
    let deadline = pool.boot_deadline;
    let succeeded = move |suspect: &RunnerFacts| {
        runners.iter().any(|r| {
            matches!(r.state, RunnerState::Idle | RunnerState::Busy)
                && r.suspected.is_none()
                && suspect.suspected.is_some_and(|long| r.in_state < long)
        })
    };
    suspects
        .iter()
        .filter(move |r| is_full || succeeded(r) || r.suspected.is_some_and(|s| s > deadline))
        .map(|r| Action::Remove(r.name.clone(), Why::Suspect, Order::RegistrationFirst))
}
