//! How many calls of GitHub a runner's life costs: 250 jobs over the simulated GitHub, on a
//! backend whose instances are there at once.

#![expect(clippy::unwrap_used, reason = "a test")]

mod instant;
mod no_machine;
mod place;

use std::collections::{BTreeMap, HashSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_manager_core::{GitHubPath, Labels, NamePrefix};
use runner_manager_fleet::{DemandSource, PoolConfig, ScaleSetConfig};
use runner_manager_github_sim::{Conclusion, JobSpec, JobView};

use instant::Instances;
use place::{Place, REPO, Sender};

const JOBS: usize = 250;
const DEADLINE: Duration = Duration::from_secs(240);

async fn place(source: DemandSource, poll: Duration) -> Place {
    // A queue pool hears of jobs by webhooks.
    let sender = match source {
        DemandSource::Queue => Sender::GitHub,
        _ => Sender::Other,
    };
    let instances = Arc::new(Instances::new(NamePrefix::new("test").unwrap()));
    let path = GitHubPath::parse(REPO, None).unwrap();
    let labels = Labels::parse(["test"]).unwrap();
    let pool = PoolConfig {
        source,
        boot_deadline: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(1),
        grace: Duration::from_secs(60),
        max_concurrent_launches: 16,
        ..PoolConfig::new("test", "instant", instances, path, labels, 50)
    };
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    Place::start(pool, poll, held, sender).await
}

impl Place {
    /// Runs all jobs, and answers the calls of the REST API and of the Actions service.
    async fn run(&self, what: &str) -> (usize, usize) {
        let began = Instant::now();
        for _ in 0..JOBS {
            self.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
        }
        let over = |job: &JobView| job.conclusion == Some(Conclusion::Success);
        // The log of exchanges holds the last 10,000 only, as they end: read often, and each once.
        let (mut calls, mut seen) = (BTreeMap::<String, usize>::new(), HashSet::new());
        loop {
            let done = self.sim.jobs().iter().all(over) && self.sim.runners().is_empty();
            for exchange in self.sim.exchanges() {
                let (at, method, path) = (exchange.at, &exchange.method, &exchange.path);
                if seen.insert((at, method.clone(), path.clone())) {
                    let path = path.split('?').next().unwrap_or_default();
                    if path.starts_with("/api/") || path.starts_with("/tenants/") {
                        let kind = path.trim_end_matches(|c: char| c.is_ascii_digit() || c == '/');
                        *calls.entry(format!("{method} {kind}")).or_default() += 1;
                    }
                }
            }
            // What the last message or webhook tells of a job is stored after the job's end.
            if done && self.store.jobs(u32::MAX).await.unwrap().len() == JOBS {
                break;
            }
            assert!(
                began.elapsed() < DEADLINE,
                "not in time: all jobs done: {done}; {calls:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let sum = |service: bool| {
            let of = |(kind, _): &(&String, &usize)| kind.contains(" /tenants/") == service;
            calls
                .iter()
                .filter(of)
                .map(|(_, count)| count)
                .sum::<usize>()
        };
        let (rest, service) = (sum(false), sum(true));
        println!(
            "{what}: {JOBS} jobs, {} runners, {rest} calls of the REST API, {service} of the Actions service, {} in all, in {:.1} s: {calls:?}",
            self.sim.registrations_created(),
            self.github.calls(),
            began.elapsed().as_secs_f64(),
        );
        self.fleet.drain().await;
        (rest, service)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_webhooks_a_runner_costs_two_calls_at_most() {
    let place = place(DemandSource::Queue, Duration::from_secs(30)).await;
    place.run("webhooks").await;
    let runners = place.sim.registrations_created();
    assert!(runners >= JOBS as u64);
    let calls = place.github.calls();
    assert!(calls <= 2 * runners, "{calls} calls for {runners} runners");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_scale_set_a_runner_costs_nearly_nothing_of_the_rate_limit() {
    let set = ScaleSetConfig {
        name: "test".into(),
        owner: "me".into(),
    };
    let place = place(DemandSource::ScaleSet(set), Duration::from_secs(30)).await;
    let (rest, _) = place.run("scale set").await;
    let runners = place.sim.registrations_created();
    assert!(runners >= JOBS as u64);
    assert!(rest <= 20, "{rest} calls of the REST API");
}
