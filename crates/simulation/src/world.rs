//! Everything outside the manager: GitHub, the clouds, the users with their jobs, and fate.

mod account;
mod events;
mod jobs;
mod machine;
mod need;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use runner_manager_core::{Result, RunnerName};
use runner_manager_github_sim::InProcess;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::clock::VirtualClock;
use crate::github::{self, Inbox};
use crate::plan::{Faults, Plan};
use crate::trace::Trace;
pub(crate) use events::Event;
use jobs::Jobs;
pub(crate) use machine::{Machine, Phase};
use need::Need;

/// How the manager stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At this very step, between any two instructions.
    Crash,
    /// It is asked to, and may finish what is under way.
    Drain,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Machines that were made.
    pub launches: u64,
    /// Calls that the simulated GitHub got.
    pub github_calls: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Managers that were cut off.
    pub crashes: u64,
    /// Managers that were asked to stop, and started again.
    pub restarts: u64,
    /// Places at which a manager could have been cut off.
    pub steps: u64,
    /// The most machines at one time.
    pub most_machines: usize,
}

pub(crate) struct State {
    pub(crate) rng: StdRng,
    pub(crate) jobs: Jobs,
    /// The machines of each pool.
    pub(crate) clouds: Vec<BTreeMap<RunnerName, Machine>>,
    /// Every name that ever had a machine.
    used: HashSet<RunnerName>,
    agenda: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    stop_at: Option<(u64, Stop)>,
    /// Nothing of the manager moves any more.
    cut: bool,
    needs: Vec<Need>,
    /// Jobs that wait no more, and until when launches may come from not having heard that.
    unheard: Vec<(Instant, u64)>,
    /// When something last happened after which runners are replaced before they are gone.
    pub(crate) excused: Option<Instant>,
    pub(crate) to_come: usize,
    pub(crate) tally: Tally,
    pub(crate) trace: Trace,
    pub(crate) violation: Option<String>,
    /// Where webhooks go while a manager listens.
    pub(crate) listener: Option<mpsc::UnboundedSender<Webhook>>,
}

/// A webhook as it comes to the manager.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) guid: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) github: InProcess,
    inbox: Arc<Inbox>,
    pub(crate) clock: VirtualClock,
    calm_from: Instant,
    state: Mutex<State>,
    rescheduled: Notify,
    stopped: Notify,
    /// Tells when something became of a job.
    pub(crate) news: Notify,
}

impl World {
    pub(crate) fn new(plan: Plan, trace: Trace) -> Result<Arc<Self>> {
        let now = Instant::now();
        let clock = VirtualClock(now);
        let inbox = Arc::new(Inbox::default());
        let github = github::start(&plan, Arc::new(clock), inbox.clone())?;
        let state = State {
            rng: StdRng::seed_from_u64(plan.seed ^ 0x5EED),
            jobs: Jobs::default(),
            clouds: plan.pools.iter().map(|_| BTreeMap::new()).collect(),
            used: HashSet::new(),
            agenda: BTreeMap::new(),
            scheduled: 0,
            stop_at: None,
            cut: false,
            needs: plan.pools.iter().map(|_| Need::default()).collect(),
            unheard: Vec::new(),
            excused: None,
            to_come: plan.jobs,
            tally: Tally::default(),
            trace,
            violation: None,
            listener: None,
        };
        let world = Self {
            calm_from: now + plan.arrivals,
            plan,
            github,
            inbox,
            clock,
            state: Mutex::new(state),
            rescheduled: Notify::new(),
            stopped: Notify::new(),
            news: Notify::new(),
        };
        world.schedule_arrivals();
        Ok(Arc::new(world))
    }

    /// The state, in which all is accounted for that has happened in GitHub. While it is locked
    /// GitHub may be called.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.account(&mut state);
        state
    }

    /// How long the run has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.0.elapsed()
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_calm(&self) -> bool {
        Instant::now() >= self.calm_from
    }

    /// When everything must have come right.
    pub(crate) fn deadline(&self) -> Instant {
        self.calm_from + self.plan.patience()
    }

    pub(crate) fn note(&self, state: &mut State, what: std::fmt::Arguments<'_>) {
        state.trace.note(self.elapsed(), what);
    }

    /// Records the first thing that must not happen.
    pub(crate) fn violate(&self, state: &mut State, what: &str) {
        self.note(state, format_args!("VIOLATION: {what}"));
        if state.violation.is_none() {
            let at = self.elapsed().as_secs_f64();
            state.violation = Some(format!("after {at:.3} s: {what}"));
        }
    }

    /// Whether a fault of this likelihood strikes now.
    pub(crate) fn strikes(&self, state: &mut State, fault: impl Fn(&Faults) -> f64) -> bool {
        let likelihood = fault(&self.plan.faults);
        if likelihood <= 0.0 || self.is_calm() || !state.rng.random_bool(likelihood) {
            return false;
        }
        state.tally.faults += 1;
        true
    }

    /// A place at which the manager may be cut off. Past the cut nothing of it goes on.
    pub(crate) async fn step(&self) {
        let cut = {
            let mut state = self.state();
            state.tally.steps += 1;
            let steps = state.tally.steps;
            match state.stop_at {
                Some((at, stop)) if steps >= at => {
                    state.stop_at = None;
                    state.cut = stop == Stop::Crash;
                    self.note(&mut state, format_args!("{stop:?} at step {steps}"));
                    self.stopped.notify_one();
                }
                _ => {}
            }
            state.cut
        };
        if cut {
            std::future::pending::<()>().await;
        }
    }

    /// Lets a new manager live, until the given number of steps from now.
    pub(crate) fn revive(&self, stop: Option<(u64, Stop)>) {
        // A stop that came too late for the one before is not meant for this one.
        let _ = self.stopped.notified().now_or_never();
        let mut state = self.state();
        state.cut = false;
        state.stop_at = stop.map(|(steps, stop)| (state.tally.steps + steps, stop));
    }

    /// Waits until the manager has to stop.
    pub(crate) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Whether the manager was cut off, rather than asked to stop.
    pub(crate) fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Passes this much time, within the bounds.
    pub(crate) async fn lag(&self, milliseconds: std::ops::Range<u64>) {
        let pause = self.state().rng.random_range(milliseconds);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
