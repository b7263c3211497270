//! What is told of a pool.

use std::collections::BTreeMap;

use runner_manager_store::RunnerState;

use super::Pool;
use crate::PoolSnapshot;
use crate::events::Reconciliation;

impl Pool {
    /// For operators.
    pub(super) fn publish(&self) {
        let mut runners = BTreeMap::<RunnerState, usize>::new();
        for runner in self.runners.values() {
            *runners.entry(runner.state).or_default() += 1;
        }
        let named = |(state, count): (RunnerState, usize)| (state.as_str(), count);
        let pool = &self.context.pool;
        let snapshot = PoolSnapshot {
            pool: pool.name.clone(),
            backend: pool.backend.to_owned(),
            github_path: pool.github_path.to_string(),
            source: pool.source.as_str(),
            min_idle: pool.min_idle_at(self.context.shared.clock.now()),
            max: pool.max,
            circuits: self.circuit.view(),
            runners: runners.into_iter().map(named).collect(),
            queued_jobs: self.waiting,
            launched: self.counters.launched,
            failed: self.counters.failed,
            last_error: self.counters.last_error.clone(),
            github_error: self.view.get().error.clone(),
            source_error: self.feed.borrow().error.clone(),
            backend_error: self.counters.backend_error.clone(),
        };
        self.snapshot.send_if_modified(|old| {
            let changed = *old != snapshot;
            *old = snapshot;
            changed
        });
    }

    /// The event, with what failed since the last.
    pub(super) fn reconciliation(&mut self) -> Reconciliation {
        let pool = &self.context.pool;
        let mut event = Reconciliation::new(self.context.shared.clock.now(), &pool.name);
        let count = |state| self.runners.values().filter(|r| r.state == state).count();
        event.crashed_runners = std::mem::take(&mut self.counters.crashed);
        event.idle_runners = count(RunnerState::Idle);
        event.active_runners = count(RunnerState::Busy);
        let wanted = event.active_runners + self.waiting + pool.min_idle;
        event.expected_runners = wanted.min(pool.max);
        event
    }
}
