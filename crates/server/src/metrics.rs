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
                self.installed.get_or_create(&of).observe(duration);
            }
            Event::RunnerStart {
                flavor,
                idle,
                queue_duration,
            } => {
                let of = [pool(&flavor)];
                self.idle.get_or_create(&of).observe(idle);
                if let Some(queued) = queue_duration {
                    self.queued.get_or_create(&of).observe(queued);
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
                self.job.get_or_create(&of).observe(job_duration);
            }
            Event::Reconciliation {
                flavor,
                crashed_runners,
                duration,
            } => {
                let of = [pool(&flavor)];
                self.cleanup.get_or_create(&of).observe(duration);
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
        of_pools(&mut registry, &self.fleet.snapshot().await);
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

/// Registers what the pools show of themselves.
fn of_pools(registry: &mut Registry, pools: &[PoolSnapshot]) {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let runners = Gauges::<2>::default();
    let (max, min_idle, queued) = (
        Gauges::<1>::default(),
        Gauges::<1>::default(),
        Gauges::<1>::default(),
    );
    let circuits = Gauges::<3>::default();
    let unreachable = Gauges::<2>::default();
    let launches = Counters::<2>::default();
    for shown in pools {
        let of = || pool(&shown.pool);
        for (state, count) in &shown.runners {
            let labels = [of(), ("state", (*state).to_owned())];
            runners.get_or_create(&labels).set(number(*count));
        }
        max.get_or_create(&[of()]).set(number(shown.max));
        min_idle.get_or_create(&[of()]).set(number(shown.min_idle));
        queued.get_or_create(&[of()]).set(number(shown.queued_jobs));
        for circuit in &shown.circuits {
            let labels = [
                of(),
                ("class", circuit.class.to_string()),
                ("state", circuit.state.to_string()),
            ];
            let failures = i64::from(circuit.failures);
            circuits.get_or_create(&labels).set(failures);
        }
        for (side, error) in [
            ("github", &shown.github_error),
            ("source", &shown.source_error),
            ("backend", &shown.backend_error),
        ] {
            let labels = [of(), ("side", side.to_owned())];
            unreachable
                .get_or_create(&labels)
                .set(error.is_some().into());
        }
        for (outcome, count) in [("launched", shown.launched), ("failed", shown.failed)] {
            let labels = [of(), ("outcome", outcome.to_owned())];
            launches.get_or_create(&labels).inc_by(count);
        }
    }
    registry.register("runners", "Runners by state", runners);
    registry.register("pool_max_runners", "The pool's limit", max);
    registry.register(
        "pool_min_idle_runners",
        "Runners that the pool keeps waiting",
        min_idle,
    );
    registry.register(
        "pool_queued_jobs",
        "Queued jobs that are for the pool",
        queued,
    );
    registry.register(
        "pool_circuit_failures",
        "Failures of a class since the last success, with the state of its circuit",
        circuits,
    );
    registry.register(
        "pool_unreachable",
        "1 where a side could not be asked the last time",
        unreachable,
    );
    registry.register("launches", "Launches since the start", launches);
}
