//! What happens by itself: jobs arrive, machines boot and die, GitHub notices, webhooks come.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use runner_manager_core::RunnerName;
use serde_json::json;
use tokio::time::Instant;

use super::machine::DECIDED_BEFORE;
use super::{Machine, Phase, State, World};
use crate::hub::Status;
use crate::plan::{PoolPlan, Source};

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
    Deliver(Option<u64>, Vec<u8>),
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
                self.note_needs(state);
                self.assign(state);
            }
            Event::Cancel(job) => {
                if state.hub.queued.contains(&job) {
                    state.hub.finish(job, "cancelled", self.now());
                    self.note(state, format_args!("job {job} is cancelled"));
                    self.note_needs(state);
                    self.tell(state, job, "completed");
                }
            }
            Event::Boot(pool, name) => self.boot(state, pool, &name),
            Event::Die(pool, name) => self.die(state, pool, &name),
            Event::End(pool, name, job) => self.end_job(state, pool, &name, job),
            Event::Notice(runner) => {
                if let Some(job) = state.hub.notice(runner, self.now()) {
                    self.note(state, format_args!("job {job} is lost"));
                    self.tell(state, job, "completed");
                }
            }
            Event::Deliver(begun, body) => {
                let heard = Instant::now() + DECIDED_BEFORE;
                // What a planner counts it tells itself.
                let begun = begun.filter(|job| self.planner_of(state, *job).is_none());
                let about = state.unheard.iter_mut().filter(|(_, j)| Some(*j) == begun);
                about.for_each(|(until, _)| *until = heard.min(*until));
                // While no manager listens, GitHub's webhooks are lost.
                let taken = state.listener.as_ref().map(|to| to.send(body));
                let got = matches!(taken, Some(Ok(())));
                self.note(state, format_args!("webhook, taken: {got}"));
            }
        }
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
        let job = state.hub.queue(run, labels, self.now());
        self.note(state, format_args!("job {job} is queued"));
        self.tell(state, job, "queued");
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

    /// Waiting jobs go to scale sets and to idle runners, whichever GitHub likes.
    pub(crate) fn assign(&self, state: &mut State) {
        state.hub.offer();
        self.news.notify_waiters();
        let mut any = false;
        while let Some((job, fitting)) = state.hub.next_match() {
            any = true;
            let runner = fitting[state.rng.random_range(0..fitting.len())];
            state.hub.assign(job, runner, self.now());
            self.note(state, format_args!("job {job} goes to runner {runner}"));
            self.tell(state, job, "in_progress");
            let found = state
                .clouds
                .iter_mut()
                .enumerate()
                .find_map(|(pool, cloud)| {
                    let mut machines = cloud.iter_mut();
                    let (name, machine) = machines.find(|(_, m)| m.runner == runner)?;
                    machine.phase = Phase::Working(job);
                    Some((pool, name.clone()))
                });
            let Some((pool, name)) = found else { continue };
            let longest = self.plan.longest_job;
            let length = self.between(state, Duration::from_secs(1)..longest);
            if self.strikes(state, |f| f.dies) {
                self.schedule(state, length / 2, Event::Die(pool, name));
            } else {
                self.schedule(state, length, Event::End(pool, name, job));
            }
        }
        if any {
            self.note_needs(state);
        }
    }

    fn boot(&self, state: &mut State, pool: usize, name: &RunnerName) {
        let Some(machine) = state.clouds[pool].get(name) else {
            return;
        };
        let runner = machine.runner;
        let connected = state.hub.connect(runner);
        self.note(
            state,
            format_args!("{name} has booted, connected: {connected}"),
        );
        if let Some(machine) = state.clouds[pool].get_mut(name) {
            machine.phase = if connected {
                machine.listens_since = Some(Instant::now());
                Phase::Listening
            } else {
                Phase::Ended
            };
        }
        self.assign(state);
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
        }
        state.hub.finish(job, "success", self.now());
        self.note(state, format_args!("job {job} is done"));
        self.tell(state, job, "completed");
    }

    /// Notes how many jobs wait for each pool.
    fn note_needs(&self, state: &mut State) {
        for (index, pool) in self.plan.pools.iter().enumerate() {
            let waiting = if self.plan.pools.len() == 1 {
                state.hub.queued.len()
            } else {
                let fits = |id: &&u64| pool.fits(&state.hub.jobs[id].labels);
                state.hub.queued.iter().filter(fits).count()
            };
            state.needs[index].note(waiting);
        }
    }

    /// A message of a scale set has come, and with it how many of its jobs there are.
    pub(crate) fn heard_of_sets(&self, state: &mut State) {
        let heard = Instant::now() + DECIDED_BEFORE;
        let sets = self.plan.pools.iter();
        let sets: Vec<&PoolPlan> = sets.filter(|p| p.source == Source::ScaleSet).collect();
        for (until, job) in &mut state.unheard {
            let labels = &state.hub.jobs[job].labels;
            if sets.iter().any(|set| set.fits(labels)) {
                *until = heard.min(*until);
            }
        }
    }

    /// How many runners the planner of a pool asks for in all: for what waits and asks for the
    /// pool's own label, for what runs, and those that are to wait.
    pub(crate) fn pressure(&self, state: &State, pool: usize) -> usize {
        let plan = &self.plan.pools[pool];
        let own = |id: &&u64| state.hub.jobs[id].labels.iter().any(|l| l == plan.label);
        let waiting = state.hub.queued.iter().filter(own).count();
        let works = |machine: &&Machine| matches!(machine.phase, Phase::Working(_));
        let working = state.clouds[pool].values().filter(works).count();
        waiting + working + plan.min_idle
    }

    /// The same, as it is told.
    pub(crate) fn tell_pressure(&self, state: &mut State, pool: usize) -> usize {
        let pressure = self.pressure(state, pool);
        let name = self.plan.pools[pool].name;
        self.note(
            state,
            format_args!("the planner of {name} tells {pressure}"),
        );
        let heard = Instant::now() + DECIDED_BEFORE;
        let mut unheard = std::mem::take(&mut state.unheard);
        for (until, job) in &mut unheard {
            if self.planner_of(state, *job) == Some(pool) {
                *until = heard.min(*until);
            }
        }
        state.unheard = unheard;
        pressure
    }

    /// The pool whose planner counts a job: for its label, or since it runs there.
    fn planner_of(&self, state: &State, job: u64) -> Option<usize> {
        let job = &state.hub.jobs[&job];
        let ran_on = job.runner.as_ref().and_then(|(_, name)| name.parse().ok());
        let counts = |pool: &PoolPlan| {
            let runs = |name: &RunnerName| name.prefix().as_str() == pool.name;
            pool.source == Source::Planner
                && (job.labels.iter().any(|l| l == pool.label) || ran_on.as_ref().is_some_and(runs))
        };
        self.plan.pools.iter().position(counts)
    }

    /// Tells whoever listens what became of a job: scale sets by their queues, and where a pool
    /// needs them by webhooks, once, twice or never, and some time later.
    fn tell(&self, state: &mut State, job: u64, action: &str) {
        self.news.notify_waiters();
        let begun = (action != "queued").then_some(job);
        let until = Instant::now() + self.old_news();
        state.unheard.extend(begun.map(|job| (until, job)));
        let all_sets = |pool: &PoolPlan| pool.source == Source::ScaleSet;
        if self.plan.pools.iter().all(all_sets) {
            return;
        }
        if self.strikes(state, |f| f.webhook_lost) {
            return;
        }
        let times = if self.strikes(state, |f| f.webhook_twice) {
            2
        } else {
            1
        };
        let job = &state.hub.jobs[&job];
        state.scheduled += 1;
        let body = json!({
            "action": action,
            "delivery": format!("{}-{action}", job.id),
            "workflow_job": job_json(job),
            "repository": { "full_name": "acme/app" },
        });
        let body = body.to_string().into_bytes();
        for _ in 0..times {
            let after = self.between(state, Duration::from_millis(50)..Duration::from_secs(4));
            self.schedule(state, after, Event::Deliver(begun, body.clone()));
        }
    }
}

/// A job as GitHub shows it.
pub(crate) fn job_json(job: &crate::hub::Job) -> serde_json::Value {
    let queued = job.status == Status::Queued;
    json!({
        "id": job.id,
        "run_id": job.run,
        "name": "build",
        "labels": job.labels,
        "status": job.status.word(),
        "conclusion": job.conclusion,
        "runner_id": job.runner.as_ref().map(|(id, _)| id),
        "runner_name": job.runner.as_ref().map(|(_, name)| name),
        "created_at": job.created_at,
        // GitHub shows a start for jobs that wait, too.
        "started_at": if queued { Some(job.created_at) } else { job.started_at },
        "completed_at": job.completed_at,
    })
}
