//! A fleet of one pool, as the program runs it: its database on disk, GitHub simulated beside it,
//! webhooks over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{
    Connected, GitHubPath, Labels, Secret, SupportServiceConfig, SystemClock,
};
use runner_manager_fleet::{
    Architecture, DemandSource, Fleet, FleetConfig, PhaseDeadlines, PoolConfig, Registration,
    Sizing,
};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use runner_manager_github_sim::{RateLimit, Sim, SimConfig, WebhookConfig};
use runner_manager_server::WebhookServer;
use runner_manager_store::Store;

pub(crate) const REPO: &str = "octo/hello";
pub(crate) const LABEL: &str = "bench";
pub(crate) const SECRET: &str = "a secret of this bench";
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// The pool, with at most so many runners.
pub(crate) fn pool(manager: Connected, max: usize) -> PoolConfig {
    PoolConfig {
        name: LABEL.into(),
        backend: "bench",
        manager,
        github_path: GitHubPath::parse(REPO, None).unwrap(),
        repositories: Vec::new(),
        labels: Labels::parse([LABEL]).unwrap(),
        architecture: Architecture::X64,
        support: SupportServiceConfig::default(),
        services: Arc::default(),
        registration: Registration::Jit,
        source: DemandSource::Queue,
        priority: 0,
        min_idle: 0,
        max,
        boot_deadline: HOUR,
        phase_deadlines: PhaseDeadlines::default(),
        idle_timeout: Duration::from_secs(1),
        grace: HOUR,
        max_concurrent_launches: 8,
        sizing: Sizing::default(),
    }
}

/// Who sends the webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The simulated GitHub, for its jobs.
    GitHub,
    /// The bench, for jobs of its own.
    Bench,
}

pub(crate) struct Place {
    pub(crate) sim: Sim,
    pub(crate) store: Store,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) receiver: SocketAddr,
    _webhooks: WebhookServer,
    _state: tempfile::TempDir,
}

impl Place {
    pub(crate) async fn start(pool: PoolConfig, poll: Duration, sender: Sender) -> Self {
        // Held until it is listened at, so that nobody else is given this port.
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = held.local_addr().unwrap();
        let webhook = (sender == Sender::GitHub).then(|| WebhookConfig {
            url: format!("http://{receiver}/webhook"),
            secret: SECRET.into(),
        });
        let sim = Sim::start(SimConfig {
            repos: vec![REPO.into()],
            rate_limit: RateLimit {
                limit: 1_000_000,
                ..RateLimit::default()
            },
            webhook,
            ..SimConfig::default()
        });
        let sim = sim.await.unwrap();
        let auth = Auth::Token(Secret::new(sim.token()));
        let github = GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap();
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).await.unwrap();
        let rhythm = FleetConfig {
            poll_interval: poll,
            ..FleetConfig::default()
        };
        let clock = Arc::new(SystemClock);
        let fleet = Fleet::start(rhythm, vec![pool], store.clone(), github, clock);
        let fleet = Arc::new(fleet.await.unwrap());
        let secrets = vec![Secret::new(SECRET)];
        drop(held);
        let webhooks = WebhookServer::start(receiver, secrets, fleet.clone());
        Self {
            sim,
            store,
            fleet,
            receiver,
            _webhooks: webhooks.await.unwrap(),
            _state: state,
        }
    }
}
