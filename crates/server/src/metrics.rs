//! What the fleet is and does, for Prometheus: gauges and counters of what the pools show, and spans
//! out of the events that were stored since the manager started.

use std::sync::Arc;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use runner_manager_core::{Error, ErrorKind, Result};
use runner_manager_fleet::{Fleet, PoolSnapshot};
use runner_manager_store::Store;
use serde::Deserialize;
use tokio::sync::Mutex;

/// What comes before each name.
const PREFIX: &str = "runner_manager";
/// How many events are read at once.
const PAGE: u32 = 1_000;
/// Upper bounds, in seconds: from a container that boots at once to a job of a day.
const BOUNDS: [f64; 16] = [
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0,
    21_600.0, 86_400.0,
];

/// A longer span is none: no job lasts for a week. Jobs write the times that spans are made of.
const LONGEST: f64 = 7.0 * 86_400.0;

type Label = (&'static str, String);
type Gauges<const N: usize> = Family<[Label; N], Gauge>;
type Counters<const N: usize> = Family<[Label; N], Counter>;
type Spans<const N: usize> = Family<[Label; N], Histogram, fn() -> Histogram>;

fn spans<const N: usize>() -> Spans<N> {
    Family::new_with_constructor(|| Histogram::new(BOUNDS))
}

fn pool(name: &str) -> Label {
    ("pool", name.to_owned())
}

/// An event, as far as it is counted here. `docs/metrics.md` has the fields.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    RunnerInstalled {
        flavor: String,
        duration: f64,
    },
    RunnerStart {
        flavor: String,
        idle: f64,
        queue_duration: Option<f64>,
    },
    RunnerStop {
        flavor: String,
        status: String,
        job_duration: f64,
        job_conclusion: Option<String>,
    },
    Reconciliation {
        flavor: String,
        crashed_runners: u64,
        duration: f64,
    },
}

/// Counts a span, if it may be one.
fn observe<const N: usize>(spans: &Spans<N>, of: &[Label; N], seconds: f64) {
    if (0.0..=LONGEST).contains(&seconds) {
        spans.get_or_create(of).observe(seconds);
    }
}

/// What is counted from events.
#[derive(Debug)]
struct OfEvents {
    installed: Spans<1>,
    idle: Spans<1>,
    queued: Spans<1>,
    job: Spans<3>,
    cleanup: Spans<1>,
    crashed: Counters<1>,
}

impl OfEvents {
    fn count(&self, event: Event) {
        match event {
            Event::RunnerInstalled { flavor, duration } => {
                let of = [pool(&flavor)];
                observe(&self.installed, &of, duration);
            }
            Event::RunnerStart {
                flavor,
                idle,
                queue_duration,
            } => {
                let of = [pool(&flavor)];
                observe(&self.idle, &of, idle);
                if let Some(queued) = queue_duration {
                    observe(&self.queued, &of, queued);
                }
            }
            Event::RunnerStop {
                flavor,
                status,
                job_duration,
                job_conclusion,
            } => {
                let conclusion = job_conclusion.unwrap_or_else(|| "unknown".into());
                let of = [
                    pool(&flavor),
                    ("status", status),
                    ("conclusion", conclusion),
                ];
                observe(&self.job, &of, job_duration);
            }
            Event::Reconciliation {
                flavor,
                crashed_runners,
                duration,
            } => {
                let of = [pool(&flavor)];
                observe(&self.cleanup, &of, duration);
                self.crashed.get_or_create(&of).inc_by(crashed_runners);
            }
        }
    }

    fn register(&self, registry: &mut Registry) {
        let mut span = |name: &str, help: &str, spans: &Spans<1>| {
            registry.register_with_unit(name, help, Unit::Seconds, spans.clone());
        };
        span(
            "runner_installation",
            "From an instance's creation until its runner was installed",
            &self.installed,
        );
        span(
            "runner_idle",
            "How long a runner waited for its job",
            &self.idle,
        );
        span(
            "job_queue",
            "From a job's queueing until it began",
            &self.queued,
        );
        span(
            "cleanup",
            "How long a cleanup of a pool took",
            &self.cleanup,
        );
        registry.register_with_unit(
            "job",
            "How long a job ran, by how its runner ended and by GitHub's conclusion",
            Unit::Seconds,
            self.job.clone(),
        );
        registry.register(
            "runners_crashed",
            "Runners that were removed since they had failed",
            self.crashed.clone(),
        );
    }
}

/// Writes the metrics of one fleet.
pub(crate) struct Metrics {
    fleet: Arc<Fleet>,
    store: Store,
    of_events: OfEvents,
    /// Up to where events are counted.
    place: Mutex<i64>,
}

impl Metrics {
    /// Counts from now on: a counter that began with what is stored would fall where the store
    /// forgets.
    pub(crate) async fn new(fleet: Arc<Fleet>, store: Store) -> Result<Self> {
        let place = store.events_after(None, 0).await?.place;
        Ok(Self {
            fleet,
            store,
            of_events: OfEvents {
                installed: spans(),
                idle: spans(),
                queued: spans(),
                job: spans(),
                cleanup: spans(),
                crashed: Family::default(),
            },
            place: Mutex::new(place),
        })
    }

    /// All metrics in Prometheus's text format, version 0.0.4.
    pub(crate) async fn text(&self) -> Result<String> {
        self.count_events().await?;
        let mut registry = Registry::with_prefix(PREFIX);
        let of_pools = OfPools::default();
        for shown in &self.fleet.snapshot().await {
            of_pools.add(shown);
        }
        of_pools.register(&mut registry);
        self.of_events.register(&mut registry);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).map_err(|error| {
            Error::new(ErrorKind::Unexpected, "cannot write metrics").with_source(error)
        })?;
        Ok(text)
    }

    async fn count_events(&self) -> Result<()> {
        let mut place = self.place.lock().await;
        loop {
            let new = self.store.events_after(Some(*place), PAGE).await?;
            let is_last = new.lines.len() < PAGE as usize;
            for line in &new.lines {
                match serde_json::from_str(line) {
                    Ok(event) => self.of_events.count(event),
                    Err(error) => tracing::debug!(%error, line, "an event is not counted"),
                }
            }
            *place = new.place;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// What the pools show of themselves.
#[derive(Debug, Default)]
struct OfPools {
    runners: Gauges<2>,
    max: Gauges<1>,
    min_idle: Gauges<1>,
    queued: Gauges<1>,
    circuits: Gauges<3>,
    unreachable: Gauges<2>,
    launches: Counters<2>,
}

impl OfPools {
    fn add(&self, shown: &PoolSnapshot) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let of = || pool(&shown.pool);
        let set = |gauges: &Gauges<1>, count| {
            gauges.get_or_create(&[of()]).set(number(count));
        };
        set(&self.max, shown.max);
        set(&self.min_idle, shown.min_idle);
        set(&self.queued, shown.queued_jobs);
        for (state, count) in &shown.runners {
            let labels = [of(), ("state", (*state).to_owned())];
            self.runners.get_or_create(&labels).set(number(*count));
        }
        for circuit in &shown.circuits {
            let class = ("class", circuit.class.to_string());
            let labels = [of(), class, ("state", circuit.state.to_string())];
            let failures = i64::from(circuit.failures);
            self.circuits.get_or_create(&labels).set(failures);
        }
        for (side, error) in [
            ("github", &shown.github_error),
            ("source", &shown.source_error),
            ("backend", &shown.backend_error),
        ] {
            let labels = [of(), ("side", side.to_owned())];
            let is_set = error.is_some().into();
            self.unreachable.get_or_create(&labels).set(is_set);
        }
        for (outcome, count) in [("launched", shown.launched), ("failed", shown.failed)] {
            let labels = [of(), ("outcome", outcome.to_owned())];
            self.launches.get_or_create(&labels).inc_by(count);
        }
    }

    fn register(self, registry: &mut Registry) {
        registry.register("runners", "Runners by state", self.runners);
        registry.register("pool_max_runners", "The pool's limit", self.max);
        registry.register(
            "pool_min_idle_runners",
            "Runners that the pool keeps waiting",
            self.min_idle,
        );
        registry.register(
            "pool_queued_jobs",
            "Queued jobs that are for the pool",
            self.queued,
        );
        registry.register(
            "pool_circuit_failures",
            "Failures of a class since the last success, with the state of its circuit",
            self.circuits,
        );
        registry.register(
            "pool_unreachable",
            "1 where a side could not be asked the last time",
            self.unreachable,
        );
        registry.register("launches", "Launches since the start", self.launches);
    }
}
