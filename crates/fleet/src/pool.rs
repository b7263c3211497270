//! The task that owns one pool.

mod begin;
mod circuit;
mod facts;
mod failures;
mod report;
mod room;
mod runner;
mod settle;
mod taken;
mod waits;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use runner_manager_core::{CloudRunnerInstance, Result, RunnerName};
use runner_manager_store::{Live, RunnerFilter, RunnerState};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::board::{Board, Reader};
use crate::decide::{Action, Order, Why, decide};
use crate::demand::Feed;
use crate::operation::{Context, Done, Shared};
use crate::orphans::OrphanRegistrations;
use crate::route::Route;
use crate::scope::ScopeView;
use crate::{FleetConfig, Phase, PoolConfig, PoolSnapshot};

use circuit::Circuit;
pub use circuit::{CircuitView, NO_JOBS};
pub(crate) use circuit::{Class, Side};
use failures::retry_pause;
use runner::{Hold, Runner};
use taken::Taken;
use waits::Waits;

/// How many removals of one pool go on at once.
const MAX_REMOVALS: usize = 16;

/// What became of a removal that an operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Removed {
    Gone,
    KeptBusy,
    Failed(String),
}

/// Which runners an operator wants removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    One(RunnerName),
    /// Those that wait for a job.
    Idle,
    All,
}

pub(crate) enum Command {
    Reconfigure(Arc<PoolConfig>),
    /// The pool has left the configuration.
    Retire,
    Remove(
        Which,
        oneshot::Sender<Vec<(RunnerName, oneshot::Receiver<Removed>)>>,
    ),
    Drain(oneshot::Sender<()>),
    /// An instance says how far it is.
    Heard(RunnerName, Phase),
}

/// What a pool is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// Serves jobs.
    Active,
    /// Left the configuration: launches nothing, and ends with its last runner.
    Retiring,
}

/// The newest list of the backend.
struct Instances {
    began: Instant,
    by_name: BTreeMap<RunnerName, CloudRunnerInstance>,
}

/// How many waiting jobs each pool has room for.
pub(crate) type Rooms = Board<HashMap<String, usize>>;

/// The state of the task.
pub(crate) struct Pool {
    context: Context,
    rhythm: FleetConfig,
    duty: Duty,
    runners: BTreeMap<RunnerName, Runner>,
    view: Reader<ScopeView>,
    taken: Taken,
    waits: Waits,
    /// What its own source tells, if it has one.
    feed: watch::Receiver<Feed>,
    routes: watch::Receiver<Arc<Vec<Route>>>,
    rooms: Arc<Rooms>,
    /// Tells when another pool fills up or empties.
    others: Reader<HashMap<String, usize>>,
    instances: Option<Instances>,
    commands: mpsc::Receiver<Command>,
    operations: JoinSet<Done>,
    /// Which runner an operation is about, should it panic.
    about: HashMap<Id, RunnerName>,
    launching: usize,
    /// How many jobs waited for a runner of this pool when it last decided.
    waiting: usize,
    /// Since when some have waited at each decision.
    unserved: Option<Instant>,
    circuit: Circuit,
    next_list: Instant,
    listing: bool,
    next_sweep: Instant,
    sweeping: bool,
    orphans: OrphanRegistrations,
    draining: Option<oneshot::Sender<()>>,
    counters: Counters,
    snapshot: watch::Sender<PoolSnapshot>,
}

#[derive(Default)]
struct Counters {
    launched: u64,
    failed: u64,
    /// Runners that failed since the last event of the pool.
    crashed: usize,
    last_error: Option<String>,
    backend_error: Option<String>,
}

/// What connects a pool with the rest of the fleet.
pub(crate) struct Wiring {
    pub(crate) shared: Arc<Shared>,
    pub(crate) view: Reader<ScopeView>,
    pub(crate) feed: watch::Receiver<Feed>,
    pub(crate) routes: watch::Receiver<Arc<Vec<Route>>>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) snapshot: watch::Sender<PoolSnapshot>,
}

impl Pool {
    /// A pool with the runners that the store remembers.
    pub(crate) async fn load(
        config: Arc<PoolConfig>,
        rhythm: FleetConfig,
        wiring: Wiring,
    ) -> Result<Self> {
        let filter = RunnerFilter {
            pool: Some(config.name.clone()),
            live_only: Live::Yes,
        };
        let rows = wiring.shared.store.runners(filter).await?;
        let runners = rows.into_iter().map(|row| {
            let mut runner = Runner::new(row.state, row.created_at, row.revision);
            runner.github_id = row.github_id;
            (row.name, runner)
        });
        let now = Instant::now();
        let pool = Self {
            runners: runners.collect(),
            context: Context {
                shared: wiring.shared,
                pool: config,
                removals: Arc::new(Semaphore::new(MAX_REMOVALS)),
            },
            rhythm,
            duty: Duty::Active,
            view: wiring.view,
            taken: Taken::default(),
            waits: Waits::default(),
            feed: wiring.feed,
            routes: wiring.routes,
            others: wiring.rooms.subscribe(),
            rooms: wiring.rooms,
            instances: None,
            commands: wiring.commands,
            operations: JoinSet::new(),
            about: HashMap::new(),
            launching: 0,
            waiting: 0,
            unserved: None,
            circuit: Circuit::default(),
            next_list: now,
            listing: false,
            next_sweep: now + rhythm.cleanup_interval,
            sweeping: false,
            orphans: OrphanRegistrations::default(),
            draining: None,
            counters: Counters::default(),
            snapshot: wiring.snapshot,
        };
        if !pool.runners.is_empty() {
            let (pool, runners) = (&pool.context.pool.name, pool.runners.len());
            tracing::info!(pool, runners, "runners of an earlier run are taken up");
        }
        Ok(pool)
    }

    /// Works until drained, retired, or cut off from the fleet.
    pub(crate) async fn run(mut self) {
        loop {
            self.reconcile().await;
            self.publish();
            if self.is_done() {
                return;
            }
            let wake = self.next_wake();
            let manager = self.context.pool.manager.clone();
            // In this order, so that a simulation's seed decides what happens.
            tokio::select! {
                biased;
                Some(joined) = self.operations.join_next_with_id(), if !self.operations.is_empty() => {
                    self.settle(joined).await;
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                changed = self.view.changed() => {
                    if !changed { return }
                    self.take_view();
                }
                true = self.others.changed() => {}
                Ok(()) = self.feed.changed() => {}
                () = manager.changed() => {
                    // A little later: changes come in swarms.
                    let soon = Instant::now() + self.rhythm.poll_interval / 10;
                    self.next_list = self.next_list.min(soon);
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            self.take_the_rest().await;
        }
    }

    /// Takes what came at the same time, so that it costs one decision, and nothing is put off
    /// by what comes faster.
    async fn take_the_rest(&mut self) {
        while let Some(joined) = self.operations.try_join_next_with_id() {
            self.settle(joined).await;
        }
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command);
        }
        if self.view.has_changed() {
            self.take_view();
        }
        self.on_timer();
    }

    fn is_done(&mut self) -> bool {
        let quiet = self.launching == 0 && self.about.is_empty();
        if quiet && let Some(drained) = self.draining.take() {
            // Nobody waits any more when the drain's deadline has passed.
            let _ = drained.send(());
            return true;
        }
        self.duty == Duty::Retiring && quiet && self.runners.is_empty()
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        if now >= self.next_list {
            self.next_list = now + self.rhythm.poll_interval;
            if !self.listing && self.draining.is_none() {
                self.listing = true;
                self.operations.spawn(self.context.clone().list());
            }
        }
        if now >= self.next_sweep {
            self.next_sweep = now + self.rhythm.cleanup_interval;
            self.start_sweep();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Reconfigure(config) => {
                tracing::info!(pool = config.name, "pool configured anew");
                self.context.pool = config;
                self.duty = Duty::Active;
                // What made launches fail may be mended by it.
                self.circuit.reset();
            }
            Command::Retire => self.duty = Duty::Retiring,
            Command::Drain(drained) => self.draining = Some(drained),
            Command::Heard(name, phase) => {
                if let Some(runner) = self.runners.get_mut(&name) {
                    runner.hear(phase);
                    if matches!(phase, Phase::JobStarted | Phase::JobCompleted) {
                        self.taken.tell(name);
                    }
                }
            }
            Command::Remove(which, reply) => {
                let order = match which {
                    Which::Idle => Order::RegistrationFirst,
                    Which::One(_) | Which::All => Order::InstanceFirst,
                };
                let mut begun = Vec::new();
                for (name, runner) in &mut self.runners {
                    let meant = match &which {
                        Which::One(one) => one == name,
                        Which::Idle => runner.state == RunnerState::Idle,
                        Which::All => true,
                    };
                    if meant {
                        let (done, wait) = oneshot::channel();
                        runner.ordered = Some(order);
                        runner.waiting.push(done);
                        begun.push((name.clone(), wait));
                    }
                }
                // An operator who has gone does not stop the removal.
                let _ = reply.send(begun);
            }
        }
    }

    /// Looks at everything that is known, decides, and begins what was decided.
    async fn reconcile(&mut self) {
        if self.draining.is_some() {
            return;
        }
        self.obey_orders();
        self.tell_room();
        let facts = self.runner_facts();
        self.waiting = self.demand(&facts);
        let since = self.unserved.unwrap_or_else(Instant::now);
        self.unserved = (self.waiting > 0).then_some(since);
        let (mut advances, mut asks) = (Vec::new(), Vec::new());
        let (mut removals, mut launches) = (Vec::new(), 0);
        for action in decide(&self.pool_facts(self.waiting), &facts) {
            match action {
                Action::Advance(name, to) => advances.push((name, to)),
                Action::Ask(name) => asks.push(name),
                Action::Suspect(name) => self.suspect(&name),
                Action::Remove(name, why, order) => removals.push((name, why, order)),
                Action::Launch(count) => launches = count,
            }
        }
        self.advance(advances).await;
        for name in asks {
            self.ask(name);
        }
        for (name, why, order) in removals {
            self.remove(&name, why, order);
        }
        self.launch(launches).await;
    }

    fn obey_orders(&mut self) {
        let due = self
            .runners
            .iter_mut()
            .filter(|(_, runner)| !runner.is_held());
        let due: Vec<(RunnerName, Order)> = due
            .filter_map(|(name, r)| Some((name.clone(), r.ordered.take()?)))
            .collect();
        for (name, order) in due {
            self.remove(&name, Why::Operator, order);
        }
    }

    /// When to look again if nothing happens before: at the next list or sweep, or when a pause
    /// or a hold ends.
    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let holds = self
            .runners
            .values()
            .filter_map(|runner| match runner.hold {
                Hold::Until(then) if then > now => Some(then),
                _ => None,
            });
        let timers = [self.next_list, self.next_sweep];
        let all = timers.into_iter().chain(holds).chain(self.circuit.wakes());
        all.min().unwrap_or(now)
    }
}
