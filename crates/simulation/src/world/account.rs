//! Accounts for what happened in GitHub: whose job it is, what follows, and who has heard of it.

use std::time::Duration;

use runner_manager_core::RunnerName;
use runner_manager_github_sim::{JobView, WebhookDelivery};
use tokio::time::Instant;

use super::machine::DECIDED_BEFORE;
use super::{Event, Machine, Phase, State, Webhook, World};
use crate::github::Occurrence;
use crate::plan::{PoolPlan, Source};

impl World {
    /// Accounts for all that happened since the last time.
    pub(crate) fn account(&self, state: &mut State) {
        let all = self.inbox.take();
        if all.is_empty() {
            return;
        }
        for occurrence in all {
            match occurrence {
                Occurrence::Job(action, job) => self.account_job(state, action, &job),
                Occurrence::RunnerDeleted(name) => {
                    self.check_removal(state, &name);
                    self.end_listener(state, &name);
                }
                Occurrence::Webhook(delivery) => self.send_webhook(state, delivery),
            }
        }
        self.news.notify_waiters();
    }

    fn account_job(&self, state: &mut State, action: &str, job: &JobView) {
        state.jobs.note(job);
        self.note_needs(state);
        self.note(state, format_args!("job {} is {action}", job.id));
        if action != "queued" {
            let until = Instant::now() + self.old_news();
            state.unheard.push((until, job.id));
        }
        if action == "in_progress" {
            self.work(state, job);
        }
    }

    /// A machine's runner has begun a job, which ends some time, or its machine with it.
    fn work(&self, state: &mut State, job: &JobView) {
        let name = job
            .runner_name
            .as_deref()
            .and_then(|name| name.parse().ok());
        let Some(name): Option<RunnerName> = name else {
            return;
        };
        let mut clouds = state.clouds.iter_mut().enumerate();
        let found = clouds.find_map(|(pool, cloud)| Some((pool, cloud.get_mut(&name)?)));
        let Some((pool, machine)) = found else {
            return;
        };
        machine.phase = Phase::Working(job.id);
        let longest = self.plan.longest_job;
        let length = self.between(state, Duration::from_secs(1)..longest);
        if self.strikes(state, |f| f.dies) {
            self.schedule(state, length / 2, Event::Die(pool, name));
        } else {
            self.schedule(state, length, Event::End(pool, name, job.id));
        }
    }

    /// A webhook comes some time later.
    fn send_webhook(&self, state: &mut State, delivery: WebhookDelivery) {
        let begun = delivery.action.is_none_or(|action| action != "queued");
        let begun = delivery.job.filter(|_| begun);
        let webhook = Webhook {
            guid: delivery.guid,
            body: delivery.body.into_bytes(),
        };
        let after = self.between(state, Duration::from_millis(50)..Duration::from_secs(4));
        self.schedule(state, after, Event::Deliver(begun, webhook));
    }

    /// Notes how many jobs wait for each pool.
    fn note_needs(&self, state: &mut State) {
        for (index, pool) in self.plan.pools.iter().enumerate() {
            let waiting = if self.plan.pools.len() == 1 {
                state.jobs.waiting()
            } else {
                state
                    .jobs
                    .queued()
                    .filter(|labels| pool.fits(labels))
                    .count()
            };
            state.needs[index].note(waiting);
        }
    }

    /// A message of a scale set has come, and with it how many of its jobs there are.
    pub(crate) fn heard_of_sets(&self, state: &mut State) {
        let heard = Instant::now() + DECIDED_BEFORE;
        let sets = self.plan.pools.iter();
        let sets: Vec<&PoolPlan> = sets.filter(|p| p.source == Source::ScaleSet).collect();
        let State { unheard, jobs, .. } = state;
        for (until, job) in unheard {
            if jobs.has_labels(*job, |labels| sets.iter().any(|set| set.fits(labels))) {
                *until = heard.min(*until);
            }
        }
    }

    /// How many runners the planner of a pool asks for in all: for what waits and asks for the
    /// pool's own label, for what runs, and those that are to wait.
    pub(crate) fn pressure(&self, state: &State, pool: usize) -> usize {
        let plan = &self.plan.pools[pool];
        let own = |labels: &&[String]| labels.iter().any(|l| l == plan.label);
        let waiting = state.jobs.queued().filter(own).count();
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
    pub(super) fn planner_of(&self, state: &State, job: u64) -> Option<usize> {
        let job = state.jobs.get(job)?;
        let ran_on = job.runner.as_ref().and_then(|name| name.parse().ok());
        let counts = |pool: &PoolPlan| {
            let runs = |name: &RunnerName| name.prefix().as_str() == pool.name;
            pool.source == Source::Planner
                && (job.labels.iter().any(|l| l == pool.label) || ran_on.as_ref().is_some_and(runs))
        };
        self.plan.pools.iter().position(counts)
    }
}
