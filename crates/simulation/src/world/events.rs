//! What happens by itself: jobs arrive, machines boot and die, GitHub notices, webhooks come.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use runner_manager_core::RunnerName;
use runner_manager_github_sim::{Conclusion, JobSpec};
use tokio::time::Instant;

use super::machine::DECIDED_BEFORE;
use super::{Phase, State, Webhook, World};
use crate::plan::Source;

#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// This many jobs are queued at once.
    Arrive(usize),
    Cancel(u64),
    Boot(usize, RunnerName),
    /// The machine works no more.
    Die(usize, RunnerName),
    /// The job on the machine is done.
    End(usize, RunnerName, u64),
    /// GitHub notices that a listener is gone.
    Notice(u64),
    /// A webhook comes; with the job that waits no more, if it tells that.
    Deliver(Option<u64>, Webhook),
    /// Nothing goes wrong with GitHub any more.
    Calm,
}

impl World {
    /// Lets things happen when they are due, for ever.
    pub(crate) async fn turn(self: Arc<Self>) {
        loop {
            let next = self.state().agenda.first_key_value().map(|(key, _)| key.0);
            let Some(at) = next else {
                self.rescheduled.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(at) => {}
                () = self.rescheduled.notified() => continue,
            }
            let mut state = self.state();
            while let Some(entry) = state.agenda.first_entry() {
                if entry.key().0 > Instant::now() {
                    break;
                }
                let event = entry.remove();
                self.happen(&mut state, event);
            }
        }
    }

    pub(crate) fn schedule(&self, state: &mut State, after: Duration, event: Event) {
        state.scheduled += 1;
        let key = (Instant::now() + after, state.scheduled);
        state.agenda.insert(key, event);
        self.rescheduled.notify_one();
    }

    pub(super) fn between(&self, state: &mut State, range: std::ops::Range<Duration>) -> Duration {
        state.rng.random_range(range)
    }

    pub(super) fn schedule_arrivals(&self) {
        let mut state = self.state();
        let mut left = self.plan.jobs;
        while left > 0 {
            let most = left.min((self.plan.jobs / 3).clamp(1, 200));
            let burst = state.rng.random_range(1..=most);
            let at = self.between(&mut state, Duration::ZERO..self.plan.arrivals);
            self.schedule(&mut state, at, Event::Arrive(burst));
            left -= burst;
        }
        self.schedule(&mut state, self.plan.arrivals, Event::Calm);
    }

    pub(super) fn schedule_notice(&self, state: &mut State, runner: u64) {
        let seconds = state.rng.random_range(10..120);
        self.schedule(state, Duration::from_secs(seconds), Event::Notice(runner));
    }

    fn happen(&self, state: &mut State, event: Event) {
        match event {
            Event::Arrive(burst) => {
                // Some may have come before their time.
                let burst = burst.min(state.to_come);
                for _ in 0..burst {
                    self.arrive(state);
                }
            }
            Event::Cancel(job) => {
                if state.jobs.is_queued(job) {
                    self.github.cancel_job(job);
                }
            }
            Event::Boot(pool, name) => self.boot(state, pool, &name),
            Event::Die(pool, name) => self.die(state, pool, &name),
            Event::End(pool, name, job) => self.end_job(state, pool, &name, job),
            Event::Notice(runner) => self.github.notice(runner),
            Event::Calm => self.github.clear_faults(),
            Event::Deliver(begun, webhook) => {
                let heard = Instant::now() + DECIDED_BEFORE;
                // What a planner counts it tells itself.
                let begun = begun.filter(|job| self.planner_of(state, *job).is_none());
                let about = state.unheard.iter_mut().filter(|(_, j)| Some(*j) == begun);
                about.for_each(|(until, _)| *until = heard.min(*until));
                // While no manager listens, GitHub's webhooks are lost.
                let taken = state.listener.as_ref().map(|to| to.send(webhook));
                let got = matches!(taken, Some(Ok(())));
                self.note(state, format_args!("webhook, taken: {got}"));
            }
        }
        self.account(state);
    }

    fn arrive(&self, state: &mut State) {
        let pool = state.rng.random_range(0..self.plan.pools.len());
        let own = self.plan.pools[pool].label.to_owned();
        let labels = match self.plan.pools[pool].source {
            Source::ScaleSet => vec![own],
            // Some jobs fit every pool that has no scale set.
            Source::Queue if self.plan.pools.len() > 1 && state.rng.random_bool(0.3) => {
                vec!["Self-Hosted".to_owned()]
            }
            Source::Queue | Source::Planner => vec!["Self-Hosted".to_owned(), own],
        };
        let number = u64::try_from(self.plan.jobs - state.to_come).unwrap_or(0);
        let run = 1 + number / self.plan.jobs_per_run;
        state.to_come -= 1;
        let spec = JobSpec {
            repo: "acme/app".into(),
            run: Some(run),
            name: "build".into(),
            labels,
            ..JobSpec::default()
        };
        let job = match self.github.queue_job(spec) {
            Ok(job) => job,
            Err(error) => {
                self.violate(state, &format!("no job can be queued: {error}"));
                return;
            }
        };
        self.account(state);
        if self.strikes(state, |f| f.cancelled) {
            let after = self.between(state, Duration::ZERO..Duration::from_secs(120));
            self.schedule(state, after, Event::Cancel(job));
        }
    }

    /// A machine is about to be ended: fate may bring a job forward to its runner, which is the
    /// worst moment. Not to one that has only just begun to listen: see ADR 13.
    pub(crate) fn tempt(&self, pool: usize, name: &RunnerName) {
        let mut state = self.state();
        let found = state.clouds[pool].get(name);
        let listens = found.is_some_and(|machine| machine.listens_for(Duration::from_secs(30)));
        if listens && state.to_come > 0 && self.strikes(&mut state, |f| f.job_in_between) {
            self.schedule(&mut state, Duration::ZERO, Event::Arrive(1));
        }
    }

    fn boot(&self, state: &mut State, pool: usize, name: &RunnerName) {
        let Some(machine) = state.clouds[pool].get(name) else {
            return;
        };
        let runner = machine.runner;
        let connected = self.github.connect(runner);
        self.note(
            state,
            format_args!("{name} has booted, connected: {connected}"),
        );
        let hears = self.plan.pools[pool].source != Source::Planner;
        let ghost = connected && hears && self.strikes(state, |f| f.ghost);
        if ghost {
            self.github.make_ghost(runner);
            self.note(state, format_args!("{name} is given no job"));
        }
        if let Some(machine) = state.clouds[pool].get_mut(name) {
            machine.ghost = ghost;
            machine.phase = if connected {
                machine.listens_since = Some(Instant::now());
                Phase::Listening
            } else {
                Phase::Ended
            };
        }
    }

    fn die(&self, state: &mut State, pool: usize, name: &RunnerName) {
        let Some(machine) = state.clouds[pool].get_mut(name) else {
            return;
        };
        machine.phase = Phase::Dead;
        let runner = machine.runner;
        self.note(state, format_args!("{name} dies"));
        self.schedule_notice(state, runner);
    }

    fn end_job(&self, state: &mut State, pool: usize, name: &RunnerName, job: u64) {
        if let Some(machine) = state.clouds[pool].get_mut(name) {
            machine.phase = Phase::Ended;
            let runner = machine.runner;
            self.github.finish_job(runner, job, Conclusion::Success);
        }
    }
}
