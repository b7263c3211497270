//! A fleet of one pool, as the program runs it: its database on disk, GitHub simulated beside it,
//! webhooks over HTTP.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{Secret, SystemClock};
use runner_manager_fleet::{Fleet, FleetConfig, PoolConfig};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use runner_manager_github_sim::{RateLimit, Sim, SimConfig, WebhookConfig};
use runner_manager_server::WebhookServer;
use runner_manager_store::Store;

pub(crate) const REPO: &str = "octo/hello";
/// What signs the webhooks.
pub(crate) const SECRET: &str = "a secret of this test";

/// Who sends the webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// The simulated GitHub, for its jobs.
    GitHub,
    /// Nobody, or whoever uses the place.
    Other,
}

pub(crate) struct Place {
    pub(crate) sim: Sim,
    pub(crate) github: GitHub,
    pub(crate) store: Store,
    pub(crate) fleet: Arc<Fleet>,
    _webhooks: WebhookServer,
    _state: tempfile::TempDir,
}

impl Place {
    /// Webhooks are taken at the address that `held` holds until then, so that nobody else is
    /// given its port.
    pub(crate) async fn start(
        pool: PoolConfig,
        poll: Duration,
        held: TcpListener,
        sender: Sender,
    ) -> Self {
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
        let fleet = Fleet::start(rhythm, vec![pool], store.clone(), github.clone(), clock);
        let fleet = Arc::new(fleet.await.unwrap());
        let secrets = vec![Secret::new(SECRET)];
        drop(held);
        let webhooks = WebhookServer::start(receiver, secrets, fleet.clone());
        Self {
            sim,
            github,
            store,
            fleet,
            _webhooks: webhooks.await.unwrap(),
            _state: state,
        }
    }
}
