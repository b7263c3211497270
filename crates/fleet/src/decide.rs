//! What to do about a pool: a pure function over what was seen.

use std::time::Duration;

use runner_manager_core::{HealthState, RunnerName};
use runner_manager_store::RunnerState;

/// What GitHub shows of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registered {
    /// No list has been taken since the runner entered its state.
    Unseen,
    /// The newest list does not hold it; for how long lists have not.
    Absent(Duration),
    /// Listed and offline; for how long.
    Offline(Duration),
    /// Waits for a job.
    Online,
    /// Runs a job.
    Busy,
}

/// What the backend shows of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instance {
    /// No list has been taken since the runner entered its state.
    Unseen,
    /// The newest list does not hold it, which proves nothing: lists lag, and are cut short.
    Unlisted,
    /// The backend was asked for it by its name, and does not have it.
    Absent,
    /// Listed.
    Present {
        health: HealthState,
        /// Whether a job runs on it, where that can be seen.
        busy: Option<bool>,
    },
}

/// A phase of a boot that takes longer than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    Boot,
    Install,
}

/// One runner as the decision sees it.
#[derive(Debug, Clone)]
pub(crate) struct RunnerFacts {
    pub(crate) name: RunnerName,
    pub(crate) state: RunnerState,
    /// How long it has been in its state.
    pub(crate) in_state: Duration,
    /// How long ago its launch was asked for.
    pub(crate) age: Duration,
    /// How old it was when GitHub was last looked at: what was not looked at is not late.
    pub(crate) age_when_seen: Duration,
    /// How long it had been in its state when GitHub was last looked at.
    pub(crate) idle_when_seen: Duration,
    /// For how long it has been a suspect: idle, while a job that it matches waits.
    pub(crate) suspected: Option<Duration>,
    /// What it is late with, before it is late as a whole.
    pub(crate) overdue: Option<Overdue>,
    /// Made from what runners are not made from any more.
    pub(crate) outdated: bool,
    pub(crate) registered: Registered,
    pub(crate) instance: Instance,
    /// An operation on it is under way, or waits for its next attempt.
    pub(crate) held: bool,
}

/// The pool as the decision sees it.
#[derive(Debug, Clone)]
pub(crate) struct PoolFacts {
    /// Queued jobs that are for this pool.
    pub(crate) demand: usize,
    pub(crate) min_idle: usize,
    pub(crate) max: usize,
    pub(crate) boot_deadline: Duration,
    pub(crate) idle_timeout: Duration,
    /// The age at which an idle runner is replaced.
    pub(crate) max_idle_age: Option<Duration>,
    /// How many idle runners may be replaced now.
    pub(crate) replacements: usize,
    /// How long a runner may be missing on GitHub, or offline, while its instance lives.
    pub(crate) lost_after: Duration,
    /// How many launches may begin now.
    pub(crate) launch_budget: usize,
    /// Jobs for this pool that have waited for longer than `suspect_after`.
    pub(crate) stalled: usize,
    /// How long a runner may be idle while a job that it matches waits.
    pub(crate) suspect_after: Duration,
}

/// Why a runner is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its instance has ended or failed.
    Ended,
    /// It was not online within the boot deadline.
    Late,
    /// A phase of its boot took longer than it may.
    Overdue(Overdue),
    /// Its instance lives, and GitHub does not know it any more.
    Lost,
    /// Nobody needs it.
    Excess,
    /// It was made from what runners are not made from any more.
    Outdated,
    /// It has waited for too long.
    Aged,
    /// It is online and idle, and is given no job although one waits that it matches.
    Suspect,
    /// The manager stopped before the launch made anything.
    Unfinished,
    /// A removal that began earlier.
    Resumed,
    /// An operator asked for it, whatever it does.
    Operator,
}

impl Why {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "the instance has ended",
            Self::Late => "not online within the boot deadline",
            Self::Overdue(Overdue::Boot) => "not booted within the deadline of this phase",
            Self::Overdue(Overdue::Install) => {
                "booted, but its runner program not started within the deadline of this phase"
            }
            Self::Lost => "no longer connected to GitHub",
            Self::Excess => "idle, and not needed",
            Self::Outdated => "idle, and made from an older image or configuration",
            Self::Aged => "idle, and past the age limit",
            Self::Suspect => "online and idle, while a job that it matches is not given to it",
            Self::Unfinished => "the launch was cut off",
            Self::Resumed => "the removal had begun",
            Self::Operator => "asked for by an operator",
        }
    }
}

/// What goes first in a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The registration: GitHub refuses while a job runs, and then the runner is kept.
    RegistrationFirst,
    /// The instance: it is dead, or a human said so.
    InstanceFirst,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A runner was seen to have come this far.
    Advance(RunnerName, RunnerState),
    /// The backend is to be asked for this one: its list does not hold it.
    Ask(RunnerName),
    /// This idle runner is not counted on any more: a job waits that it is not given.
    Suspect(RunnerName),
    Remove(RunnerName, Why, Order),
    /// Launch this many runners.
    Launch(usize),
}

/// What one runner is, once what was seen is applied.
enum Verdict {
    /// It can take a job, or will soon.
    Free,
    /// It holds its place and takes no job now.
    Taken,
    Remove(Why, Order),
}

/// Whether a job is seen to run on the instance, which GitHub's list may not show yet.
fn is_working(r: &RunnerFacts) -> bool {
    let job = Some(true);
    matches!(r.instance, Instance::Present { busy, .. } if busy == job)
}

fn judge(pool: &PoolFacts, r: &RunnerFacts, state: RunnerState) -> Verdict {
    use Order::{InstanceFirst, RegistrationFirst};
    let dead = match r.instance {
        Instance::Absent => true,
        Instance::Present { health, .. } => health == HealthState::Unhealthy,
        Instance::Unseen | Instance::Unlisted => false,
    };
    let working = is_working(r);
    match state {
        RunnerState::Gone => Verdict::Taken,
        RunnerState::Requested | RunnerState::Launching => match r.instance {
            Instance::Absent if !r.held => Verdict::Remove(Why::Unfinished, InstanceFirst),
            _ => Verdict::Free,
        },
        RunnerState::Booting | RunnerState::Idle | RunnerState::Busy if dead => {
            Verdict::Remove(Why::Ended, InstanceFirst)
        }
        RunnerState::Booting if r.age_when_seen > pool.boot_deadline && !working => {
            Verdict::Remove(Why::Late, RegistrationFirst)
        }
        RunnerState::Booting => match r.overdue {
            Some(phase) if !working => Verdict::Remove(Why::Overdue(phase), RegistrationFirst),
            _ => Verdict::Free,
        },
        RunnerState::Idle | RunnerState::Busy => match r.registered {
            Registered::Absent(gone) if gone > pool.lost_after && !working => {
                Verdict::Remove(Why::Lost, InstanceFirst)
            }
            Registered::Offline(gone) if gone > pool.lost_after && !working => {
                Verdict::Remove(Why::Lost, RegistrationFirst)
            }
            Registered::Unseen | Registered::Online
                if state == RunnerState::Idle && !suspects::is_suspect(r) =>
            {
                Verdict::Free
            }
            _ => Verdict::Taken,
        },
        RunnerState::Finished | RunnerState::Deleting => {
            let order = if dead {
                InstanceFirst
            } else {
                RegistrationFirst
            };
            Verdict::Remove(Why::Resumed, order)
        }
    }
}

/// How far a runner has come, by what was seen of it.
pub(crate) fn progress(r: &RunnerFacts) -> RunnerState {
    match (r.state, r.registered, r.instance) {
        (RunnerState::Booting | RunnerState::Idle, Registered::Busy, _) => RunnerState::Busy,
        (RunnerState::Booting, Registered::Online, _) => RunnerState::Idle,
        // After a crash: the launch made an instance, so that it is a runner like any other.
        (RunnerState::Requested | RunnerState::Launching, _, Instance::Present { .. })
            if !r.held =>
        {
            RunnerState::Booting
        }
        (state, _, _) => state,
    }
}

/// Splits idle runners into those that nobody needs for long, at most so many, and the others.
fn too_many<'a>(
    pool: &PoolFacts,
    idle: Vec<&'a RunnerFacts>,
    most: usize,
) -> (Vec<&'a RunnerFacts>, Vec<&'a RunnerFacts>) {
    let mut left = most;
    idle.into_iter().partition(|r| {
        let goes = left > 0 && r.in_state > pool.idle_timeout;
        left -= usize::from(goes);
        goes
    })
}

/// The idle runners to replace now, each with the reason.
fn to_replace<'a>(pool: &PoolFacts, idle: &[&'a RunnerFacts]) -> Vec<(&'a RunnerFacts, Why)> {
    let why = |r: &RunnerFacts| {
        let aged = pool.max_idle_age.is_some_and(|most| r.age > most);
        match (r.outdated, aged) {
            (true, _) => Some(Why::Outdated),
            (false, true) => Some(Why::Aged),
            (false, false) => None,
        }
    };
    let due = idle.iter().filter_map(|r| Some((*r, why(r)?)));
    due.take(pool.replacements).collect()
}

/// Decides. Advances come first, then questions, then removals, then launches.
///
/// What a list lacks is asked for by its name before it is taken for gone.
pub(crate) fn decide(pool: &PoolFacts, runners: &[RunnerFacts]) -> Vec<Action> {
    let mut advances = Vec::new();
    let (mut asks, mut removals) = (Vec::new(), Vec::new());
    let mut free = 0_usize;
    let (mut idle, mut known) = (Vec::<&RunnerFacts>::new(), Vec::new());
    for r in runners {
        let state = progress(r);
        let unlisted = r.instance == Instance::Unlisted && !r.held;
        // A removal supersedes the advance that would come before it.
        match judge(pool, r, state) {
            Verdict::Remove(why, order) if !r.held => {
                removals.push(Action::Remove(r.name.clone(), why, order));
                continue;
            }
            Verdict::Free => {
                free += 1;
                if state == RunnerState::Idle && !r.held && !unlisted && !is_working(r) {
                    idle.push(r);
                }
            }
            Verdict::Taken if suspects::is_suspect(r) && !r.held && !unlisted && !is_working(r) => {
                known.push(r);
            }
            Verdict::Remove(..) | Verdict::Taken => {}
        }
        // What an operation does to it is stored by that operation.
        if state != r.state && !r.held {
            advances.push(Action::Advance(r.name.clone(), state));
        } else if unlisted {
            asks.push(Action::Ask(r.name.clone()));
        }
    }
    let wanted = pool.demand + pool.min_idle;
    let suspects = suspects::new_suspects(pool, runners, &idle);
    free -= suspects.len();
    idle.retain(|r| !suspects.iter().any(|suspect| suspect.name == r.name));
    removals.extend(suspects::removals(pool, runners, &known));
    // The oldest image first, and of one image the oldest runner.
    idle.retain(|r| r.state == RunnerState::Idle);
    idle.sort_by_key(|r| std::cmp::Reverse((r.outdated, r.age)));
    let (excess, kept) = too_many(pool, idle, free.saturating_sub(wanted.min(pool.max)));
    let replaced = to_replace(pool, &kept);
    let launches = wanted
        .saturating_sub(free - replaced.len())
        // What is being removed still holds its place until it is gone.
        .min(pool.max.saturating_sub(runners.len()))
        .min(pool.launch_budget);
    let leave = |(r, why): (&RunnerFacts, Why)| {
        Action::Remove(r.name.clone(), why, Order::RegistrationFirst)
    };
    let excess = excess.into_iter().map(|r| (r, Why::Excess));
    removals.extend(excess.chain(replaced).map(leave));
    let mut actions = advances;
    actions.extend(asks);
    let suspects = suspects.into_iter();
    actions.extend(suspects.map(|r| Action::Suspect(r.name.clone())));
    actions.extend(removals);
    if launches > 0 {
        actions.push(Action::Launch(launches));
    }
    actions
}

mod suspects;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
