//! Which of the waiting jobs are for this pool, beside the others.

use runner_manager_core::RunnerName;
use runner_manager_store::RunnerState;

use super::{Duty, Pool, Runner};
use crate::DemandSource;
use crate::demand::Supply;
use crate::queues::waiting;
use crate::route::share;

impl Pool {
    /// How many jobs wait for a runner of this pool.
    pub(super) fn demand(&self) -> usize {
        match self.context.pool.source {
            DemandSource::Queue => self.share(),
            DemandSource::ScaleSet(_) | DemandSource::Planner(_) => {
                self.feed.borrow().demand.waiting(self.supply())
            }
        }
    }

    fn supply(&self) -> Supply {
        let view = self.view.get();
        let working = |(name, r): &(&RunnerName, &Runner)| {
            r.state == RunnerState::Busy && !view.finished.contains(&name.to_string())
        };
        let ready = |r: &&Runner| r.state < RunnerState::Busy;
        Supply {
            ready: self.runners.values().filter(ready).count(),
            working: self.runners.iter().filter(working).count(),
            min_idle: self
                .context
                .pool
                .min_idle_at(self.context.shared.clock.now()),
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

    /// Tells the other pools how many waiting jobs this one has room for.
    pub(super) fn tell_room(&self) {
        let pool = &self.context.pool;
        let ready = |r: &&Runner| r.state < RunnerState::Busy;
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
