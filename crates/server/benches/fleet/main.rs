//! How fast the fleet follows demand. `cargo xtask bench` runs it; arguments choose stages.

#![expect(clippy::unwrap_used, reason = "a bench")]

mod figures;
mod hooks;
#[path = "../../tests/calls/instant.rs"]
mod instant;
#[path = "../../tests/calls/no_machine.rs"]
mod no_machine;
#[path = "../../tests/calls/place.rs"]
mod place;
mod recorder;
mod steady;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use runner_manager_core::{Connected, GitHubPath, Labels, NamePrefix};
use runner_manager_fleet::PoolConfig;
use runner_manager_github_sim::{Conclusion, JobSpec, JobView};
use tokio::runtime::Builder;

use hooks::{Hooks, Sent};
use instant::Instances;
use place::{Place, REPO, SECRET, Sender};
use recorder::Recorder;

const LABEL: &str = "bench";
const HOUR: Duration = Duration::from_secs(3_600);
/// How long a stage waits for anything.
const PATIENCE: Duration = Duration::from_secs(600);
const STAGES: [&str; 4] = ["launch", "burst", "reconcile", "jobs"];

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let unknown = wanted.iter().find(|word| !STAGES.contains(&word.as_str()));
    assert!(
        unknown.is_none(),
        "unknown stage {unknown:?}; known: {STAGES:?}"
    );
    let many = Builder::new_multi_thread().enable_all().build().unwrap();
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    for stage in STAGES {
        if !wanted.is_empty() && !wanted.iter().any(|word| word == stage) {
            continue;
        }
        match stage {
            "launch" => many.block_on(launch()),
            "burst" => many.block_on(burst()),
            "reconcile" => one.block_on(steady::run()),
            _ => many.block_on(jobs()),
        }
    }
}

fn prefix() -> NamePrefix {
    NamePrefix::new(LABEL).unwrap()
}

/// The pool, with at most so many runners.
fn pool(manager: Connected, max: usize) -> PoolConfig {
    let path = GitHubPath::parse(REPO, None).unwrap();
    let labels = Labels::parse([LABEL]).unwrap();
    PoolConfig {
        boot_deadline: HOUR,
        idle_timeout: Duration::from_secs(1),
        grace: HOUR,
        ..PoolConfig::new(LABEL, "bench", manager, path, labels, max)
    }
}

/// A fleet that hears of what the bench sends.
async fn place(pool: PoolConfig) -> (Place, Hooks) {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let hooks = Hooks::new(held.local_addr().unwrap());
    (Place::start(pool, HOUR, held, Sender::Other).await, hooks)
}

fn all_taken(sent: &[Sent]) {
    let taken = sent.iter().all(|sent| sent.status == StatusCode::ACCEPTED);
    assert!(taken, "a webhook was refused");
}

/// From a webhook to the launch that is asked of the backend.
async fn launch() {
    const QUEUED: usize = 1_000;
    const SINGLE: usize = 200;
    let backend = Recorder::new(prefix());
    let (place, mut hooks) = place(pool(backend.clone(), 10_000)).await;
    // The first look at GitHub and the first connection are no part of it.
    all_taken(&hooks.burst(1).await);
    backend.launched(1).await;

    let mut sent = hooks.burst(QUEUED as u64).await;
    all_taken(&sent);
    backend.launched(1 + QUEUED).await;
    let launches = backend.launches();
    sent.sort_by_key(|sent| sent.at);
    let mut asked = launches[1..].to_vec();
    asked.sort_unstable();
    let pairs = sent.iter().zip(&asked);
    let waits = pairs.map(|(sent, asked)| asked.saturating_duration_since(sent.at));
    let waits = waits.collect();
    figures::latencies("webhook to launch, 1,000 in one burst", waits);

    let mut waits = Vec::new();
    for number in 1..=SINGLE {
        let sent = hooks.burst(1).await;
        all_taken(&sent);
        backend.launched(1 + QUEUED + number).await;
        let asked = backend.launches()[QUEUED + number];
        waits.push(asked.saturating_duration_since(sent[0].at));
    }
    figures::latencies("webhook to launch, one more while 1,000 are queued", waits);
    place.fleet.drain().await;
}

/// Many webhooks at once.
async fn burst() {
    const COUNT: u64 = 10_000;
    // No runner: only what it costs to take them.
    let (place, mut hooks) = place(pool(Recorder::new(prefix()), 0)).await;
    let began = Instant::now();
    let sent = hooks.burst(COUNT).await;
    let took = began.elapsed();
    all_taken(&sent);
    let stored = place.store.jobs(u32::MAX).await.unwrap().len();
    println!(
        "{COUNT} webhooks: {:.0} accepted a second, {stored} jobs stored, at most {} MiB of memory, sender and simulated GitHub included",
        f64::from(u32::try_from(COUNT).unwrap()) / took.as_secs_f64(),
        figures::peak_memory("self")
    );
    let answers = sent.iter().map(|sent| sent.answered).collect();
    figures::latencies("webhook to answer, 64 at once", answers);
    place.fleet.drain().await;
}

/// Jobs through their whole lives, on instances that are there at once.
async fn jobs() {
    const JOBS: u32 = 1_000;
    let mut pool = pool(Arc::new(Instances::new(prefix())), 50);
    pool.boot_deadline = Duration::from_secs(60);
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Place::start(pool, Duration::from_secs(10), held, Sender::GitHub).await;
    let began = Instant::now();
    for _ in 0..JOBS {
        place.sim.queue_job(JobSpec::new(REPO, &[LABEL])).unwrap();
    }
    let over = |job: &JobView| job.conclusion == Some(Conclusion::Success);
    while !place.sim.jobs().iter().all(over) {
        assert!(began.elapsed() < PATIENCE, "the jobs do not come to an end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{JOBS} jobs from queued to done, at most 50 runners: {:.1} a second, {} calls of GitHub",
        f64::from(JOBS) / began.elapsed().as_secs_f64(),
        place.github.calls()
    );
    place.fleet.drain().await;
}
