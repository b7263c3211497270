//! Which of the waiting jobs are for this pool, beside the others.

use std::collections::{BTreeSet, HashSet};

use runner_manager_core::{NamePrefix, RunnerName};
use runner_manager_github::RemoteJob;
use runner_manager_store::RunnerState;
use tokio::time::Instant;

use super::{Duty, Pool, Runner};
use crate::DemandSource;
use crate::decide::{RunnerFacts, progress};
use crate::demand::Supply;
use crate::queues::waiting;
use crate::route::share;
use crate::scope::ScopeView;

impl Pool {
    /// How many jobs wait for a runner of this pool, whose runners are these.
    pub(super) fn demand(&self, runners: &[RunnerFacts]) -> usize {
        let pool = &self.context.pool;
        match pool.source {
            DemandSource::Queue => self.share(),
            DemandSource::ScaleSet(_) | DemandSource::Planner(_) => {
                let min_idle = pool.min_idle_at(self.context.shared.clock.now());
                let view = self.view.get();
                let mut supply = supply(runners, &view.finished, min_idle);
                if pool.scale_set().is_some() {
                    supply.working += ghosts(runners, &view, pool.prefix());
                }
                self.feed.borrow().demand.waiting(supply)
            }
        }
    }

    /// How many of the queued jobs are for this pool.
    fn share(&self) -> usize {
        let routes = self.routes.borrow();
        let views = self.context.shared.queues.of_all();
        let jobs = waiting(&views);
        let shares = share(&routes, jobs, &self.rooms.get());
        let mine = shares.get(self.context.pool.name.as_str());
        let shown = mine.copied().unwrap_or(0);
        shown.saturating_sub(self.taken.of(&self.view.get()))
    }

    /// How many jobs for this pool have waited for longer than a runner of it may be idle beside
    /// them.
    pub(super) fn stalled(&self) -> usize {
        let pool = &self.context.pool;
        match pool.source {
            DemandSource::Queue => {}
            // Which jobs wait nobody tells, but that some do all the time.
            DemandSource::ScaleSet(_) => {
                let is_long = |since: Instant| since.elapsed() > pool.suspect_after;
                return self
                    .unserved
                    .filter(|since| is_long(*since))
                    .map_or(0, |_| self.waiting);
            }
            // A planner asks for runners, and not for the sake of jobs that wait.
            DemandSource::Planner(_) => return 0,
        }
        let view = self.view.get();
        let is_old = |job: &&RemoteJob| self.waits.is_longer(job, pool.suspect_after);
        let old: Vec<&RemoteJob> = view.queued.iter().filter(is_old).collect();
        if old.is_empty() {
            return 0;
        }
        let routes = self.routes.borrow();
        let shares = share(&routes, old, &self.rooms.get());
        shares.get(pool.name.as_str()).copied().unwrap_or(0)
    }

    /// Tells the other pools how many waiting jobs this one has room for.
    pub(super) fn tell_room(&self) {
        let pool = &self.context.pool;
        let ready = |r: &&Runner| r.state < RunnerState::Busy && r.suspected.is_none();
        let ready = self.runners.values().filter(ready).count();
        let taken = self.runners.len() - ready;
        let room = match self.duty {
            Duty::Retiring => 0,
            // Launches fail: only what is there already can take a job.
            Duty::Active if self.circuit.is_troubled() => ready,
            Duty::Active => pool.max.saturating_sub(taken),
        };
        self.rooms.send_if_modified(|rooms| {
            let before = rooms.insert(pool.name.clone(), room);
            before != Some(room)
        });
    }
}

/// What the runners are to a demand, as far as they have come by what was seen of them: the
/// decision counts by the same, and one that is just seen to have its job must not count as
/// ready there and as not yet at work here, or another would be launched for its job.
fn supply(runners: &[RunnerFacts], finished: &HashSet<String>, min_idle: usize) -> Supply {
    let count = |is: &dyn Fn(&RunnerFacts) -> bool| runners.iter().filter(|r| is(r)).count();
    let goes_on = |r: &RunnerFacts| !finished.contains(r.name.as_str());
    Supply {
        ready: count(&|r| progress(r) < RunnerState::Busy),
        working: count(&|r| progress(r) == RunnerState::Busy && goes_on(r)),
        min_idle,
    }
}

/// How many runners died in a job that GitHub still counts as one that runs: until it notices,
/// which takes minutes, nobody waits for a runner in their place.
fn ghosts(runners: &[RunnerFacts], view: &ScopeView, prefix: &NamePrefix) -> usize {
    let working = runners.iter().filter(|r| progress(r) == RunnerState::Busy);
    let working: BTreeSet<&RunnerName> = working.map(|r| &r.name).collect();
    let busy = view.runners.values().filter(|runner| runner.busy);
    let open = busy.filter(|runner| !view.finished.contains(&runner.name));
    let own = open.filter_map(|runner| prefix.owned(&runner.name));
    own.filter(|name| !working.contains(name)).count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use runner_manager_github::RemoteRunner;

    use super::*;
    use crate::decide::{Instance, Registered};

    fn runner(id: u32, state: RunnerState, registered: Registered) -> RunnerFacts {
        RunnerFacts {
            name: format!("app-{id:012x}").parse().unwrap(),
            state,
            in_state: Duration::ZERO,
            age: Duration::ZERO,
            age_when_seen: Duration::ZERO,
            idle_when_seen: Duration::ZERO,
            suspected: None,
            overdue: None,
            outdated: false,
            registered,
            instance: Instance::Unseen,
            held: false,
        }
    }

    #[test]
    fn the_job_of_a_dead_runner_counts_until_github_notices() {
        let shown = |name: &str, busy| {
            let runner = RemoteRunner {
                id: 1,
                name: name.into(),
                online: true,
                busy,
                labels: Vec::new(),
                ephemeral: None,
            };
            (name.to_owned(), runner)
        };
        let view = ScopeView {
            runners: [
                shown("app-000000000001", true),
                shown("app-000000000002", true),
                shown("app-000000000003", true),
                shown("app-000000000004", false),
                shown("app-000000000005", true),
                shown("other-000000000006", true),
            ]
            .into(),
            finished: ["app-000000000005".to_owned()].into(),
            ..ScopeView::default()
        };
        let runners = [
            runner(1, RunnerState::Busy, Registered::Busy),
            runner(2, RunnerState::Deleting, Registered::Busy),
        ];
        let prefix = NamePrefix::new("app").unwrap();
        assert_eq!(ghosts(&runners, &view, &prefix), 2, "2, which goes, and 3");
    }

    #[test]
    fn a_runner_works_from_the_moment_that_its_job_is_seen() {
        let runners = [
            runner(1, RunnerState::Booting, Registered::Unseen),
            runner(2, RunnerState::Booting, Registered::Busy),
            runner(3, RunnerState::Busy, Registered::Busy),
            runner(4, RunnerState::Busy, Registered::Busy),
        ];
        let finished = [runners[3].name.to_string()].into();
        let supply = supply(&runners, &finished, 1);
        assert_eq!((supply.ready, supply.working, supply.min_idle), (1, 2, 1));
    }
}
