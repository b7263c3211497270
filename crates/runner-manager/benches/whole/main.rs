//! How fast the manager follows demand, as its users run it: the manager, GitHub and the sender of
//! webhooks are processes of their own and speak HTTP. `cargo xtask bench` runs it.

#![expect(clippy::unwrap_used, reason = "a bench")]

#[path = "../../../server/benches/fleet/figures.rs"]
mod figures;
#[path = "../../../server/benches/fleet/hooks.rs"]
mod hooks;
mod processes;

use std::time::{Duration, Instant, SystemTime};

use reqwest::StatusCode;
use serde_json::{Value, json};

use hooks::{Hooks, Sent};
use processes::Whole;

const REPO: &str = "acme/app";
const LABEL: &str = "bench";
/// What signs the webhooks.
const SECRET: &str = "a secret of this bench";
/// How long a stage waits for anything.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() {
    processes::build();
    launch().await;
    burst().await;
    jobs().await;
}

fn all_taken(sent: &[Sent]) {
    let taken = sent.iter().all(|sent| sent.status == StatusCode::ACCEPTED);
    assert!(taken, "a webhook was refused");
}

/// Waits until so many launches were asked for, and gives when.
async fn launched(whole: &Whole, count: usize) -> Vec<SystemTime> {
    let end = Instant::now() + PATIENCE;
    loop {
        let launches = whole.launches();
        if launches.len() >= count {
            return launches;
        }
        assert!(Instant::now() < end, "the launches do not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// From a webhook to the launch that is asked of the backend.
async fn launch() {
    const QUEUED: usize = 1_000;
    const SINGLE: usize = 200;
    let whole = Whole::start(10_000, false);
    let mut hooks = Hooks::new(whole.receiver);
    // The first look at GitHub and the first connection are no part of it.
    all_taken(&hooks.burst(1).await);
    launched(&whole, 1).await;

    // One clock for all processes.
    let (clock, wall) = (Instant::now(), SystemTime::now());
    let waited = |sent: &Sent, asked: SystemTime| {
        let sent = wall + sent.at.duration_since(clock);
        asked.duration_since(sent).unwrap_or_default()
    };
    let mut sent = hooks.burst(QUEUED as u64).await;
    all_taken(&sent);
    let mut asked = launched(&whole, 1 + QUEUED).await.split_off(1);
    sent.sort_by_key(|sent| sent.at);
    asked.sort_unstable();
    let pairs = sent.iter().zip(asked);
    let waits = pairs.map(|(sent, asked)| waited(sent, asked)).collect();
    figures::latencies("webhook to launch, 1,000 in one burst", waits);

    let mut waits = Vec::new();
    for number in 1..=SINGLE {
        let sent = hooks.burst(1).await;
        all_taken(&sent);
        let asked = launched(&whole, 1 + QUEUED + number).await[QUEUED + number];
        waits.push(waited(&sent[0], asked));
    }
    figures::latencies("webhook to launch, one more while 1,000 are queued", waits);
}

/// Many webhooks at once.
async fn burst() {
    const COUNT: u64 = 10_000;
    // No runner: only what it costs to take them.
    let whole = Whole::start(0, false);
    let began = Instant::now();
    let sent = Hooks::new(whole.receiver).burst(COUNT).await;
    let took = began.elapsed();
    all_taken(&sent);
    println!(
        "{COUNT} webhooks: {:.0} accepted a second, {} jobs stored, at most {} MiB of memory of the manager",
        f64::from(u32::try_from(COUNT).unwrap()) / took.as_secs_f64(),
        whole.stored(COUNT),
        whole.peak_memory(),
    );
    let answers = sent.iter().map(|sent| sent.answered).collect();
    figures::latencies("webhook to answer, 64 at once", answers);
}

/// Jobs through their whole lives, on instances that are there at once.
async fn jobs() {
    const JOBS: u32 = 1_000;
    let whole = Whole::start(50, true);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/_sim/jobs", whole.github);
    let began = Instant::now();
    for _ in 0..JOBS {
        let job = json!({ "repo": REPO, "labels": [LABEL] });
        let queued = client
            .post(&url)
            .bearer_auth(&whole.token)
            .json(&job)
            .send()
            .await
            .unwrap();
        queued.error_for_status().unwrap();
    }
    let over = |job: &Value| job["conclusion"] == "success";
    loop {
        let answer = client
            .get(&url)
            .bearer_auth(&whole.token)
            .send()
            .await
            .unwrap();
        let jobs: Value = answer.json().await.unwrap();
        if jobs["jobs"].as_array().unwrap().iter().all(over) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the jobs do not come to an end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{JOBS} jobs from queued to done, at most 50 runners: {:.1} a second, at most {} MiB of memory of the manager",
        f64::from(JOBS) / began.elapsed().as_secs_f64(),
        whole.peak_memory(),
    );
}
