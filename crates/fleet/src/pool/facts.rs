//! From what is known to what the decision needs.

use std::time::Duration;

use runner_manager_core::{HealthState, RunnerName, Support, age_at};
use runner_manager_store::RunnerState;
use tokio::time::Instant;

use super::circuit::Side;
use super::{Duty, Pool, Runner};
use crate::Phase;
use crate::PhaseDeadlines;
use crate::decide::{Instance, Overdue, PoolFacts, Registered, RunnerFacts};
use crate::scope::ScopeView;

/// How long after the end of a job the backend is asked for what became of its runner.
const AFTER_JOB: Duration = Duration::from_millis(500);
/// How long a runner may be missing on GitHub while its instance lives.
const LOST_AFTER: Duration = Duration::from_secs(120);

impl Pool {
    /// Notes since when runners have been missing on GitHub.
    pub(super) fn take_view(&mut self) {
        let view = self.view.get_and_update();
        self.taken.catch_up(&view);
        self.waits.see(&view);
        if let (Some(began), None) = (view.began, &view.error) {
            let now = self.context.shared.clock.now();
            self.circuit.reached(Side::GitHub, began, now);
        }
        let ended = |(name, r): (&RunnerName, &Runner)| {
            r.state == RunnerState::Busy && view.finished.contains(name.as_str())
        };
        if self.runners.iter().any(ended) {
            self.next_list = self.next_list.min(Instant::now() + AFTER_JOB);
        }
        for (name, runner) in &mut self.runners {
            let listed = view.runners.get(name.as_str());
            if let Some(listed) = listed
                && runner.github_id.is_none()
            {
                runner.github_id = Some(listed.id);
            }
            runner.missing = match listed {
                Some(listed) if listed.online => None,
                _ if !is_fresh(&view, runner) => runner.missing,
                _ => match runner.missing {
                    Some((since, was_listed)) if was_listed == listed.is_some() => {
                        Some((since, was_listed))
                    }
                    _ => Some((Instant::now(), listed.is_some())),
                },
            };
        }
    }

    pub(super) fn runner_facts(&self) -> Vec<RunnerFacts> {
        let view = self.view.get();
        // Read once: runners are many, and a decision is made often.
        let (now, time) = (Instant::now(), self.context.shared.clock.now());
        // Before the first look everything is as young as can be.
        let since = |then| now.saturating_duration_since(then);
        let look_age = view.began.map_or(Duration::MAX, since);
        let deadlines = self.phase_deadlines();
        let facts = self.runners.iter().map(|(name, runner)| {
            let age = age_at(time, runner.created_at);
            RunnerFacts {
                name: name.clone(),
                state: runner.state,
                in_state: since(runner.since),
                age,
                age_when_seen: age.saturating_sub(look_age),
                idle_when_seen: since(runner.since).saturating_sub(look_age),
                suspected: runner.suspected.map(since),
                overdue: overdue(runner, deadlines),
                outdated: runner.revision != self.context.pool.sizing.revision,
                registered: with_word(runner, registered(&view, name, runner)),
                instance: self.instance(name, runner),
                held: runner.is_held(),
            }
        });
        facts.collect()
    }

    /// Those of the pool, if its instances tell how far they are.
    fn phase_deadlines(&self) -> PhaseDeadlines {
        let pool = &self.context.pool;
        let claims = &pool.manager.capability().claim;
        match (claims, &pool.services.callback) {
            (Support::Unsupported(_), _) | (_, None) => PhaseDeadlines::default(),
            _ => pool.phase_deadlines,
        }
    }

    fn instance(&self, name: &RunnerName, runner: &Runner) -> Instance {
        if runner.heard >= Some(Phase::JobCompleted) {
            // It says so itself, and nobody but it can.
            return Instance::Present {
                health: HealthState::Unhealthy,
                busy: Some(false),
            };
        }
        if runner.gone {
            return Instance::Absent;
        }
        match &self.instances {
            Some(list) if list.began >= runner.since => match list.by_name.get(name) {
                Some(found) => Instance::Present {
                    health: found.health,
                    busy: found.busy,
                },
                None => Instance::Unlisted,
            },
            _ => Instance::Unseen,
        }
    }

    /// What is known of the pool, for which so many jobs wait.
    pub(super) fn pool_facts(&self, waiting: usize) -> PoolFacts {
        let pool = &self.context.pool;
        let view = self.view.get();
        // Nothing is launched before both sides were seen once: what they hold may be adopted.
        let blind = self.instances.is_none() || view.began.is_none();
        let booting = |r: &&Runner| r.state == RunnerState::Booting;
        let booting = self.runners.values().filter(booting).count();
        let launch_budget = if blind {
            0
        } else {
            let usual = pool.max_concurrent_launches;
            self.circuit.budget(usual, self.launching, booting)
        };
        // The successors of the last ones have to be online, and launches must not fail.
        let steady = booting + self.launching == 0 && !self.circuit.is_troubled();
        let replacements = if steady {
            pool.sizing.replace_at_once
        } else {
            0
        };
        let now = self.context.shared.clock.now();
        let (demand, min_idle, max, idle_timeout) = match self.duty {
            Duty::Active => (waiting, pool.min_idle_at(now), pool.max, pool.idle_timeout),
            Duty::Retiring => (0, 0, 0, Duration::ZERO),
        };
        PoolFacts {
            demand,
            min_idle,
            max,
            boot_deadline: pool.boot_deadline,
            idle_timeout,
            max_idle_age: pool.sizing.max_idle_age,
            replacements,
            lost_after: LOST_AFTER,
            launch_budget,
            stalled: self.stalled(),
            suspect_after: pool.suspect_after,
        }
    }
}

/// Which phase of its boot has taken too long.
fn overdue(runner: &Runner, deadlines: PhaseDeadlines) -> Option<Overdue> {
    let (phase, deadline) = match runner.heard {
        None => (Overdue::Boot, deadlines.boot?),
        Some(Phase::Booted | Phase::Installing) => (Overdue::Install, deadlines.install?),
        Some(_) => return None,
    };
    (runner.phase_since?.elapsed() > deadline).then_some(phase)
}

/// What an instance says of itself is news as long as GitHub has not shown the runner.
fn with_word(runner: &Runner, seen: Registered) -> Registered {
    let is_new = match seen {
        Registered::Unseen | Registered::Online => true,
        Registered::Absent(_) | Registered::Offline(_) => runner.state == RunnerState::Booting,
        Registered::Busy => false,
    };
    match runner.heard {
        Some(Phase::JobStarted) if is_new => Registered::Busy,
        Some(Phase::Listening) if is_new => Registered::Online,
        _ => seen,
    }
}

/// Whether a look began after the runner entered its state: only then its absence says
/// something.
fn is_fresh(view: &ScopeView, runner: &Runner) -> bool {
    view.began.is_some_and(|began| began >= runner.since)
}

pub(super) fn registered(view: &ScopeView, name: &RunnerName, runner: &Runner) -> Registered {
    match view.runners.get(name.as_str()) {
        Some(listed) if listed.busy => Registered::Busy,
        Some(listed) if listed.online => Registered::Online,
        _ if !is_fresh(view, runner) => Registered::Unseen,
        listed => {
            // Only as long as was looked at: while GitHub cannot be asked, nothing is lost.
            let until = view.began.unwrap_or_else(Instant::now);
            let gone = runner.missing.map_or(Duration::ZERO, |(since, _)| {
                until.saturating_duration_since(since)
            });
            match listed {
                Some(_) => Registered::Offline(gone),
                None => Registered::Absent(gone),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_phase_is_overdue_by_what_the_instance_tells() {
        let minute = Duration::from_secs(60);
        let deadlines = PhaseDeadlines {
            boot: Some(minute),
            install: Some(2 * minute),
        };
        let new = || Runner::new(RunnerState::Booting, jiff::Timestamp::UNIX_EPOCH, "".into());
        let mut runner = new();
        let adopted = new();
        runner.phase_since = Some(Instant::now());
        assert_eq!(overdue(&runner, deadlines), None);
        tokio::time::advance(minute * 3 / 2).await;
        assert_eq!(overdue(&runner, deadlines), Some(Overdue::Boot));
        assert_eq!(overdue(&runner, PhaseDeadlines::default()), None);
        assert_eq!(
            overdue(&adopted, deadlines),
            None,
            "nobody knows since when"
        );

        runner.hear(Phase::Booted);
        tokio::time::advance(minute * 3 / 2).await;
        runner.hear(Phase::Installing);
        assert_eq!(overdue(&runner, deadlines), None);
        tokio::time::advance(minute).await;
        assert_eq!(overdue(&runner, deadlines), Some(Overdue::Install));
        runner.hear(Phase::Listening);
        assert_eq!(overdue(&runner, deadlines), None);
    }
}
