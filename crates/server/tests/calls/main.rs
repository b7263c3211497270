//! How many calls of GitHub a runner's life costs: 1,000 jobs over the simulated GitHub, on a
//! backend whose instances are there at once.

#![expect(clippy::unwrap_used, reason = "a test")]

mod instant;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_manager_core::{
    GitHubPath, Label, Labels, NamePrefix, Secret, SupportServiceConfig, SystemClock,
};
use runner_manager_fleet::{
    Architecture, DemandSource, Fleet, FleetConfig, PhaseDeadlines, PoolConfig, Registration,
    ScaleSetConfig, Sizing,
};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use runner_manager_github_sim::{
    Conclusion, JobSpec, JobView, RateLimit, Sim, SimConfig, WebhookConfig,
};
use runner_manager_server::WebhookServer;
use runner_manager_store::Store;

use instant::Instances;

const JOBS: usize = 1_000;
const REPO: &str = "octo/hello";
const SECRET: &str = "a secret of this test";
const DEADLINE: Duration = Duration::from_secs(240);

/// A fleet of one pool, and GitHub beside it.
struct Place {
    sim: Sim,
    github: GitHub,
    fleet: Arc<Fleet>,
    _webhooks: Option<WebhookServer>,
    _state: tempfile::TempDir,
}

fn pool(instances: Instances, source: DemandSource) -> PoolConfig {
    PoolConfig {
        name: "test".into(),
        backend: "instant",
        manager: Arc::new(instances),
        github_path: GitHubPath::parse(REPO, None).unwrap(),
        repositories: Vec::new(),
        labels: Labels::new(vec![Label::new("test").unwrap()]).unwrap(),
        architecture: Architecture::X64,
        support: SupportServiceConfig::default(),
        services: Arc::default(),
        registration: Registration::Jit,
        source,
        priority: 0,
        min_idle: 0,
        max: 50,
        boot_deadline: Duration::from_secs(60),
        phase_deadlines: PhaseDeadlines::default(),
        idle_timeout: Duration::from_secs(1),
        grace: Duration::from_secs(60),
        max_concurrent_launches: 16,
        sizing: Sizing::default(),
    }
}

async fn place(source: DemandSource, poll: Duration) -> Place {
    // A queue pool hears of jobs by webhooks; nobody listens at this port before.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen: SocketAddr = free.local_addr().unwrap();
    drop(free);
    let hears = matches!(source, DemandSource::Queue);
    let sim = Sim::start(SimConfig {
        repos: vec![REPO.into()],
        rate_limit: RateLimit {
            limit: 1_000_000,
            ..RateLimit::default()
        },
        webhook: hears.then(|| WebhookConfig {
            url: format!("http://{listen}/webhook"),
            secret: SECRET.into(),
        }),
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let auth = Auth::Token(Secret::new(sim.token()));
    let github = GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap();
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).await.unwrap();
    let rhythm = FleetConfig {
        poll_interval: poll,
        ..FleetConfig::default()
    };
    let instances = Instances::new(NamePrefix::new("test").unwrap());
    let pools = vec![pool(instances, source)];
    let clock = Arc::new(SystemClock);
    let fleet = Fleet::start(rhythm, pools, store, github.clone(), clock).await;
    let fleet = Arc::new(fleet.unwrap());
    let webhooks = if hears {
        let secrets = vec![Secret::new(SECRET)];
        Some(
            WebhookServer::start(listen, secrets, fleet.clone())
                .await
                .unwrap(),
        )
    } else {
        None
    };
    Place {
        sim,
        github,
        fleet,
        _webhooks: webhooks,
        _state: state,
    }
}

impl Place {
    /// Runs all jobs, and answers the calls of the REST API and of the Actions service.
    async fn run(&self, what: &str) -> (usize, usize) {
        let began = Instant::now();
        for _ in 0..JOBS {
            self.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
        }
        let over = |job: &JobView| job.conclusion == Some(Conclusion::Success);
        // The log of exchanges holds the last 10,000 only: read often, and never twice.
        let (mut calls, mut last) = (BTreeMap::<String, usize>::new(), None);
        loop {
            let done = self.sim.jobs().iter().all(over) && self.sim.runners().is_empty();
            for exchange in self.sim.exchanges() {
                if last.is_none_or(|last| exchange.at > last) {
                    last = Some(exchange.at);
                    let path = exchange.path.split('?').next().unwrap_or_default();
                    if path.starts_with("/api/") || path.starts_with("/tenants/") {
                        let kind = path.trim_end_matches(|c: char| c.is_ascii_digit() || c == '/');
                        *calls
                            .entry(format!("{} {kind}", exchange.method))
                            .or_default() += 1;
                    }
                }
            }
            if done {
                break;
            }
            assert!(began.elapsed() < DEADLINE, "not in time: {calls:?}");
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
    assert!(runners >= 1_000);
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
    assert!(runners >= 1_000);
    assert!(rest <= 50, "{rest} calls of the REST API");
}
