//! What a decision begins: steps that are stored, launches, questions, removals, sweeps.

use futures::future::join_all;
use runner_manager_core::{Error, RunnerName};
use runner_manager_store::{NewRunner, RunnerState};
use tokio::time::Instant;

use super::circuit::Side;
use super::runner::{Hold, Runner};
use super::{Class, Pool};
use crate::decide::{Order, Why};
use crate::recorder::FailedRunner;
use crate::registrar::Enrolment;

impl Pool {
    /// Stores how far runners have come, all at once.
    pub(super) async fn advance(&mut self, steps: Vec<(RunnerName, RunnerState)>) {
        let (store, now) = (&self.context.shared.store, self.context.shared.clock.now());
        let stored = steps
            .iter()
            .map(|(name, to)| store.advance(name, *to, now, None));
        let outcomes = join_all(stored).await;
        for ((name, to), outcome) in steps.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {
                    tracing::info!(pool = self.context.pool.name, runner = %name, state = %to, "runner moves on");
                    if let Some(runner) = self.runners.get_mut(&name) {
                        runner.enter(to);
                        self.circuit.online();
                        if to == RunnerState::Busy {
                            self.circuit.took_job();
                        }
                    }
                }
                Err(error) => self.store_failed(&name, &error),
            }
        }
    }

    fn store_failed(&mut self, name: &RunnerName, error: &Error) {
        tracing::error!(pool = self.context.pool.name, runner = %name, %error, "cannot store what a runner does; nothing is begun");
        self.counters.last_error = Some(error.to_string());
        self.launch_failed(error, Side::Other, Instant::now());
    }

    /// Stores the intents, and only then begins the launches.
    pub(super) async fn launch(&mut self, count: usize) {
        let now = self.context.shared.clock.now();
        let intent = |_| NewRunner {
            pool: self.context.pool.name.clone(),
            name: self
                .context
                .pool
                .prefix()
                .runner_name(&self.context.shared.chance.instance_id()),
            revision: self.context.pool.sizing.revision.clone(),
            now,
        };
        let intents: Vec<NewRunner> = (0..count).map(intent).collect();
        let store = &self.context.shared.store;
        let stored = intents.iter().map(|intent| store.insert_runner(intent));
        let outcomes = join_all(stored).await;
        for (intent, outcome) in intents.into_iter().zip(outcomes) {
            match outcome {
                Ok(()) => self.begin_launch(intent),
                Err(error) => self.store_failed(&intent.name, &error),
            }
        }
    }

    fn begin_launch(&mut self, intent: NewRunner) {
        let name = intent.name;
        tracing::info!(pool = intent.pool, runner = %name, "launch runner");
        let mut runner = Runner::new(RunnerState::Requested, intent.now, intent.revision);
        runner.hold = Hold::Operation;
        runner.phase_since = Some(Instant::now());
        self.runners.insert(name.clone(), runner);
        self.launching += 1;
        let task = self
            .operations
            .spawn(self.context.clone().launch(name.clone()));
        self.about.insert(task.id(), name);
    }

    /// Counts on a runner no more: jobs wait that it is not given.
    pub(super) fn suspect(&mut self, name: &RunnerName) {
        let Some(runner) = self.runners.get_mut(name) else {
            return;
        };
        let (idle, pool) = (runner.since.elapsed().as_secs(), &self.context.pool.name);
        tracing::warn!(
            pool, runner = %name, idle,
            "a runner is online and idle, and GitHub gives it no job although one waits that it matches; another is launched in its place. See the version of the runner program, the runner group and its repositories, the labels, and GitHub's status"
        );
        runner.suspected = Some(Instant::now());
        self.after_launch_failed(Class::NoJobs, Why::Suspect);
    }

    pub(super) fn remove(&mut self, name: &RunnerName, why: Why, order: Order) {
        let failed_boot = self.is_failed_boot(name, why);
        if why == Why::Ended && self.has_left(name) {
            // An ephemeral runner leaves GitHub's list with its job, which may have been short.
            self.circuit.took_job();
        }
        if failed_boot {
            self.after_launch_failed(Class::Boot, why);
        }
        let listed = self.instances.as_ref().and_then(|l| l.by_name.get(name));
        let probe = listed.map(|instance| instance.health_reason.clone());
        let Some(runner) = self.runners.get_mut(name) else {
            return;
        };
        runner.hold = Hold::Operation;
        let crashed = match why {
            Why::Late | Why::Overdue(_) | Why::Lost => true,
            Why::Ended => runner.state < RunnerState::Busy,
            _ => false,
        };
        self.counters.crashed += usize::from(crashed);
        let class = match why {
            Why::Suspect => Some(Class::NoJobs),
            _ => failed_boot.then_some(Class::Boot),
        };
        let failed = class.map(|class| FailedRunner { class, probe });
        let ended = why == Why::Ended
            && (runner.state == RunnerState::Busy
                || self.view.get().finished.contains(name.as_str()));
        let enrolment = if ended {
            Enrolment::Spent
        } else {
            runner.github_id.into()
        };
        let removal = self
            .context
            .clone()
            .remove(name.clone(), why, order, enrolment, failed);
        let task = self.operations.spawn(removal);
        self.about.insert(task.id(), name.clone());
    }

    /// Asks the backend for a runner that its list does not hold.
    pub(super) fn ask(&mut self, name: RunnerName) {
        if let Some(runner) = self.runners.get_mut(&name) {
            runner.hold = Hold::Operation;
            let task = self
                .operations
                .spawn(self.context.clone().ask(name.clone()));
            self.about.insert(task.id(), name);
        }
    }

    pub(super) fn start_sweep(&mut self) {
        let view = self.view.get();
        if self.sweeping || self.draining.is_some() || view.began.is_none() {
            return;
        }
        let pool = &self.context.pool;
        let known = |name: &RunnerName| self.runners.contains_key(name);
        let registrations = self.orphans.due(&view, pool.prefix(), pool.grace, known);
        let clock = &self.context.shared.clock;
        let instances = self.instances.iter().flat_map(|list| list.by_name.values());
        let orphans = instances
            .filter(|i| !known(&i.name) && i.busy != Some(true))
            .filter(|i| clock.age(i.created_at) >= pool.grace)
            .map(|i| i.name.clone())
            .collect();
        self.sweeping = true;
        let event = self.reconciliation();
        self.operations
            .spawn(self.context.clone().sweep(registrations, orphans, event));
    }
}
