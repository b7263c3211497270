//! One run: managers come and go over the same store and the same world, until all is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use runner_manager_core::{
    Error, ErrorKind, GitHubPath, HostedRunners, Labels, NamePrefix, Result, Retry, Secret, Timings,
};
use runner_manager_fleet::{
    DemandSource, Fleet, FleetConfig, FlushMode, PlannerConfig, PoolConfig, ScaleSetConfig,
};
use runner_manager_github::{GitHub, workflow_job};
use runner_manager_store::{Gate, Live, Moment, RunnerFilter, Store};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cloud::SimulatedCloud;
use crate::github::{self, InProcessTransport};
use crate::plan::{Plan, PoolPlan, Source};
use crate::planner::Planner;
use crate::trace::Trace;
use crate::world::{Phase, Stop, Tally, Webhook, World};

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What must not have happened, if anything.
    pub violation: Option<String>,
    /// The last of what happened, for whoever looks into it.
    pub last: String,
    /// The same for runs in which the same happened.
    pub digest: u64,
    /// How long the run was in virtual time.
    pub lasted: Duration,
    /// What was counted.
    pub tally: Tally,
}

/// What to do with what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Keep the last of it, and its digest.
    Keep,
    /// Print all of it, too.
    Print,
    /// Nothing: for large runs.
    Nothing,
}

/// Runs a plan to its end.
///
/// # Errors
/// When the simulation itself cannot be set up.
pub fn run(plan: Plan, watch: Watch) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|e| Error::new(ErrorKind::Local, "cannot make a runtime").with_source(e))?;
    runtime.block_on(simulate(plan, watch))
}

async fn simulate(plan: Plan, watch: Watch) -> Result<Outcome> {
    let mut trace = Trace::default();
    trace.print = watch == Watch::Print;
    trace.keep = watch != Watch::Nothing;
    let world = World::new(plan, trace)?;
    let store = Store::in_memory(gate(&world))?;
    let turning = tokio::spawn(world.clone().turn());
    let mut lives = world.plan.crashes;
    loop {
        let stop = next_stop(&world, &mut lives);
        world.revive(stop);
        let outcome = tokio::select! {
            biased;
            outcome = live(&world, &store) => outcome,
            () = tokio::time::sleep_until(world.deadline()) => Ok(End::Done),
        };
        world.state().listener = None;
        match outcome {
            Ok(End::Done) => break,
            Ok(End::Crashed) => world.state().tally.crashes += 1,
            Ok(End::Drained) => world.state().tally.restarts += 1,
            // The store failed while it was read; whoever runs the manager starts it again.
            Err(_) => {}
        }
        world.lag(10..60_000).await;
    }
    world.revive(None);
    if world.state().violation.is_none() {
        check_end(&world, &store).await;
    }
    turning.abort();
    let state = world.state();
    Ok(Outcome {
        violation: state.violation.clone(),
        last: state.trace.last(),
        digest: state.trace.digest(),
        lasted: world.elapsed(),
        tally: Tally {
            faults: state.tally.faults + world.github.faults_hit(),
            ..state.tally
        },
    })
}

/// After how many steps the next manager stops, and how.
fn next_stop(world: &World, lives: &mut u32) -> Option<(u64, Stop)> {
    if *lives == 0 || world.is_calm() {
        return None;
    }
    *lives -= 1;
    let mut state = world.state();
    // Most stops come early, where a start does the most.
    let reach = if state.rng.random_bool(0.5) {
        60
    } else {
        20 * world.plan.jobs as u64 + 100
    };
    let steps = state.rng.random_range(1..=reach);
    let stop = if state.rng.random_bool(0.8) {
        Stop::Crash
    } else {
        Stop::Drain
    };
    Some((steps, stop))
}

/// The store's steps are places to be cut off at, and may fail.
fn gate(world: &Arc<World>) -> Gate {
    let world = world.clone();
    Arc::new(move |moment| {
        let world = world.clone();
        Box::pin(async move {
            world.step().await;
            let failed =
                moment == Moment::Before && world.strikes(&mut world.state(), |f| f.store_error);
            if failed {
                world.state().excused = Some(Instant::now());
                return Err(Error::new(ErrorKind::Local, "the simulated disk is full")
                    .with_retry(Retry::After(Duration::from_secs(1))));
            }
            Ok(())
        })
    })
}

enum End {
    Done,
    Crashed,
    Drained,
}

/// One manager's life.
async fn live(world: &Arc<World>, store: &Store) -> Result<End> {
    let github = GitHub::over(
        Arc::new(InProcessTransport(world.clone())),
        github::config(),
    )?;
    let seed = world.state().rng.random();
    let config = FleetConfig {
        poll_interval: world.plan.poll,
        cleanup_interval: Duration::from_secs(60),
        seed: Some(seed),
        ..FleetConfig::default()
    };
    let pools = pools(world)?;
    let clock = Arc::new(world.clock);
    let start = Fleet::start(config, pools, store.clone(), github, clock);
    let fleet = tokio::select! {
        biased;
        fleet = start => Arc::new(fleet?),
        () = world.stopped() => return Ok(End::Crashed),
    };
    let (tell, webhooks) = mpsc::unbounded_channel();
    world.state().listener = Some(tell);
    let at_work = work(world, store, &fleet, webhooks);
    tokio::select! {
        biased;
        () = at_work => {}
        () = world.stopped() => {
            if world.is_cut() {
                return Ok(End::Crashed);
            }
            world.state().listener = None;
            fleet.drain().await;
            return Ok(End::Drained);
        }
    }
    Ok(End::Done)
}

/// Hands webhooks to the fleet, flushes and changes the configuration now and then, and ends when
/// all is done.
async fn work(
    world: &Arc<World>,
    store: &Store,
    fleet: &Arc<Fleet>,
    mut webhooks: mpsc::UnboundedReceiver<Webhook>,
) {
    let mut deliveries = JoinSet::new();
    let mut look = tokio::time::interval(Duration::from_secs(5));
    let mut configured = Configured::Whole;
    loop {
        tokio::select! {
            biased;
            Some(webhook) = webhooks.recv() => {
                deliveries.spawn(deliver(fleet.clone(), webhook));
            }
            Some(_) = deliveries.join_next() => {}
            _ = look.tick() => {
                world.check_late();
                if world.state().violation.is_some() || is_done(world, store).await {
                    return;
                }
                configured = reload(world, fleet, configured).await;
                let flush = !world.is_calm() && world.state().rng.random_bool(0.01);
                if flush {
                    world.flush();
                    let fleet = fleet.clone();
                    deliveries.spawn(async move {
                        let wait = Duration::from_secs(60);
                        // Its failures are the fleet's to mend.
                        let _ = fleet.flush(None, FlushMode::Idle, wait).await;
                    });
                }
            }
        }
    }
}

/// Which pools the configuration has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Configured {
    Whole,
    /// The last pool is left out.
    Reduced,
}

/// Now and then the last of several pools leaves the configuration; some time later, or when the
/// world is calm, it comes back.
async fn reload(world: &Arc<World>, fleet: &Fleet, now: Configured) -> Configured {
    let (wanted, is_due) = match now {
        Configured::Whole => {
            let several = world.plan.pools.len() > 1;
            let strikes = several && world.strikes(&mut world.state(), |f| f.reloaded);
            (Configured::Reduced, strikes)
        }
        Configured::Reduced => {
            let is_due = world.is_calm() || world.state().rng.random_bool(0.05);
            (Configured::Whole, is_due)
        }
    };
    if !is_due {
        return now;
    }
    let Ok(mut pools) = pools(world) else {
        return now;
    };
    if wanted == Configured::Reduced {
        pools.pop();
    }
    world.flush();
    match fleet.reload(pools).await {
        Ok(()) => {
            world.note(&mut world.state(), format_args!("{wanted:?} configuration"));
            wanted
        }
        // It stays as it was.
        Err(_) => now,
    }
}

async fn deliver(fleet: Arc<Fleet>, webhook: Webhook) {
    if let Ok(Some(event)) = workflow_job(&webhook.body) {
        // GitHub does not send again what failed.
        let _ = fleet.deliver(&webhook.guid, event).await;
    }
}

/// Whether every job is done, and as many runners wait as should, and nothing else is left.
async fn is_done(world: &World, store: &Store) -> bool {
    let settled = world.is_calm() && complaints(world).is_empty();
    settled && {
        let filter = RunnerFilter {
            pool: None,
            live_only: Live::Yes,
        };
        let wanted: usize = world.plan.pools.iter().map(|pool| pool.min_idle).sum();
        store
            .runners(filter)
            .await
            .is_ok_and(|rows| rows.len() == wanted)
    }
}

async fn check_end(world: &World, store: &Store) {
    let mut left = complaints(world);
    if left.is_empty() && !is_done(world, store).await {
        left.push("the store holds runners that do not exist".into());
    }
    if !left.is_empty() {
        let text = format!("not all has come right: {}", left.join("; "));
        world.violate(&mut world.state(), &text);
    }
}

/// What has not come right yet.
fn complaints(world: &World) -> Vec<String> {
    let state = world.state();
    let mut left = Vec::new();
    if state.to_come > 0 {
        left.push(format!("{} jobs are to come", state.to_come));
    }
    if state.jobs.unfinished() > 0 {
        left.push(format!(
            "{} jobs wait, and {} are not done",
            state.jobs.waiting(),
            state.jobs.unfinished()
        ));
    }
    let runners = world.github.runners().into_iter();
    let mut registered: BTreeMap<u64, String> = runners.map(|r| (r.id, r.name)).collect();
    for (pool, cloud) in world.plan.pools.iter().zip(&state.clouds) {
        let idle = cloud.values().filter(|m| m.phase == Phase::Listening);
        let (idle, all) = (idle.count(), cloud.len());
        if (idle, all) != (pool.min_idle, pool.min_idle) {
            let (name, wanted) = (pool.name, pool.min_idle);
            left.push(format!(
                "{name} has {all} machines, {idle} idle, instead of {wanted}"
            ));
        }
        for machine in cloud.values() {
            registered.remove(&machine.runner);
        }
    }
    if !registered.is_empty() {
        left.push(format!("registrations without a machine: {registered:?}"));
    }
    left
}

fn pools(world: &Arc<World>) -> Result<Vec<PoolConfig>> {
    let plans = world.plan.pools.iter().enumerate();
    plans
        .map(|(index, plan)| pool(world, index, plan))
        .collect()
}

fn planner(world: &Arc<World>, pool: usize, plan: &PoolPlan) -> PlannerConfig {
    let url = github::config().url;
    let carrier = Planner {
        world: world.clone(),
        pool,
    };
    PlannerConfig {
        carrier: Arc::new(carrier),
        ..PlannerConfig::new(url, plan.label, Secret::new("simulated"))
    }
}

fn pool(world: &Arc<World>, index: usize, plan: &PoolPlan) -> Result<PoolConfig> {
    let wrong =
        |e: runner_manager_core::InvalidValue| Error::new(ErrorKind::InvalidConfig, e.to_string());
    let prefix = NamePrefix::new(plan.name).map_err(wrong)?;
    let timings = Timings {
        grace: Duration::from_secs(120),
        ..Timings::default()
    };
    let cloud = SimulatedCloud::new(world.clone(), index);
    let manager = HostedRunners::new(cloud, prefix, timings.clone(), Arc::new(world.clock));
    let path = GitHubPath::Repository {
        owner: "acme".into(),
        repo: "app".into(),
    };
    let labels = Labels::parse([plan.label]).map_err(wrong)?;
    Ok(PoolConfig {
        source: match plan.source {
            Source::Queue => DemandSource::Queue,
            Source::Planner => DemandSource::Planner(planner(world, index, plan)),
            Source::ScaleSet => DemandSource::ScaleSet(ScaleSetConfig {
                name: plan.name.into(),
                owner: "acme".into(),
            }),
        },
        priority: plan.priority,
        min_idle: plan.min_idle,
        boot_deadline: plan.boot_deadline,
        idle_timeout: plan.idle_timeout,
        grace: timings.grace,
        max_concurrent_launches: plan.launches,
        ..PoolConfig::new(
            plan.name,
            "simulated",
            Arc::new(manager),
            path,
            labels,
            plan.max,
        )
    })
}
