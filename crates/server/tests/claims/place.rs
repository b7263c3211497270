//! A fleet whose instances claim their secrets over TLS, and somebody who calls it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Certificate, Client, StatusCode};
use runner_manager_core::{
    GitHubPath, HostedRunners, Labels, ManualClock, NamePrefix, RunnerName, Secret, Timings,
};
use runner_manager_fleet::{
    CallbackConfig, Fleet, FleetConfig, IpNetwork, ManagerServices, PoolConfig,
};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use runner_manager_github_sim::{Sim, SimConfig};
use runner_manager_server::{InstanceServer, TlsFiles};
use runner_manager_store::Store;

use crate::machines::{Booted, Machines, World};

const REPO: &str = "octo/hello";
/// How long an instance may take to claim.
pub(crate) const CLAIM_WITHIN: Duration = Duration::from_secs(600);
/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// A call that hears nothing for as long has hung.
pub(crate) const CALL: Duration = Duration::from_secs(20);

/// The n-th address of this machine.
pub(crate) fn local(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, n).into()
}

/// The log of all tests of this program; each knows its own runners.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    })
}

pub(crate) fn log_text() -> String {
    String::from_utf8(log().0.lock().unwrap().clone()).unwrap()
}

/// The alarms about a runner, or about whatever else has this text.
pub(crate) fn alarms(about: &impl ToString) -> Vec<String> {
    let about = about.to_string();
    let text = log_text();
    let alarms = text.lines().filter(|line| line.contains("alarm=true"));
    let ours = alarms.filter(|line| line.contains(&about));
    ours.map(str::to_owned).collect()
}

/// A certificate authority of its own, and a certificate for this machine.
fn certificates(folder: &Path) -> (Certificate, TlsFiles) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let server = server.signed_by(&key, &authority).unwrap();
    let files = TlsFiles {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
    };
    std::fs::write(&files.certificate, server.pem()).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let authority = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    (authority, files)
}

fn pool(name: &str, world: &Arc<World>, callback: CallbackConfig) -> PoolConfig {
    let prefix = NamePrefix::new(name).unwrap();
    let (cloud, clock) = (Machines::new(world.clone()), world.clock.clone());
    let runners = HostedRunners::new(cloud, prefix, Timings::default(), clock);
    let path = GitHubPath::parse(REPO, None).unwrap();
    let labels = Labels::parse(["test"]).unwrap();
    PoolConfig {
        services: Arc::new(ManagerServices {
            callback: Some(callback),
            ..ManagerServices::default()
        }),
        min_idle: 1,
        boot_deadline: CLAIM_WITHIN * 100,
        idle_timeout: CLAIM_WITHIN * 100,
        grace: CLAIM_WITHIN * 100,
        max_concurrent_launches: 1,
        ..PoolConfig::new(name, "test", Arc::new(runners), path, labels, 1)
    }
}

/// A fleet of one instance, and GitHub beside it.
pub(crate) struct Place {
    pub(crate) world: Arc<World>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) store: Store,
    pub(crate) runner: RunnerName,
    pub(crate) booted: Booted,
    pub(crate) state: tempfile::TempDir,
    authority: Certificate,
    _server: InstanceServer,
    _sim: Sim,
}

impl Place {
    /// An instance that its cloud shows at `addresses`, of a pool whose instances come from
    /// `networks`.
    pub(crate) async fn new(name: &str, addresses: &[IpAddr], networks: &[&str]) -> Self {
        log();
        let config = SimConfig {
            repos: vec![REPO.into()],
            ..SimConfig::default()
        };
        let sim = Sim::start(config).await.unwrap();
        let auth = Auth::Token(Secret::new(sim.token()));
        let github = GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap();
        let state = tempfile::tempdir().unwrap();
        let (authority, tls) = certificates(state.path());
        // The server needs its fleet, the fleet its address: the port is chosen beforehand.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let clock = Arc::new(ManualClock::new(Timestamp::now()));
        let world = World::new(clock.clone(), addresses.to_vec());
        let networks = networks.iter().map(|n| n.parse::<IpNetwork>().unwrap());
        let callback = CallbackConfig {
            url: format!("https://{address}").parse().unwrap(),
            claim_within: CLAIM_WITHIN,
            networks: networks.collect(),
        };
        let pools = vec![pool(name, &world, callback)];
        let store = Store::open(&state.path().join("state")).await.unwrap();
        let rhythm = FleetConfig {
            poll_interval: Duration::from_millis(100),
            ..FleetConfig::default()
        };
        let fleet = Fleet::start(rhythm, pools, store.clone(), github, clock).await;
        let fleet = Arc::new(fleet.unwrap());
        let server = InstanceServer::start(address, Some(tls), fleet.clone()).await;
        let (runner, booted) = first(&world).await;
        Self {
            world,
            fleet,
            store,
            runner,
            booted,
            state,
            authority,
            _server: server.unwrap(),
            _sim: sim,
        }
    }

    fn client(&self, from: IpAddr) -> Client {
        let client = Client::builder().no_proxy().timeout(CALL);
        let client = client.tls_certs_only([self.authority.clone()]);
        client.local_address(from).build().unwrap()
    }

    /// A claim of the runner, as an instance at `from` sends it.
    pub(crate) async fn claim(&self, nonce: &str, from: IpAddr) -> (StatusCode, String) {
        self.claim_as(&self.runner.to_string(), Some(nonce), from)
            .await
    }

    pub(crate) async fn claim_as(
        &self,
        name: &str,
        nonce: Option<&str>,
        from: IpAddr,
    ) -> (StatusCode, String) {
        let url = self.booted.url.as_str();
        let url = url.replace(&self.runner.to_string(), name) + "/claim";
        assert!(url.starts_with("https://"), "{url}");
        let mut call = self.client(from).post(url);
        if let Some(nonce) = nonce {
            call = call.bearer_auth(nonce);
        }
        let answer = call.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// A report of the runner.
    pub(crate) async fn report(&self, token: &str, phase: &str) -> StatusCode {
        let url = format!("{}/phase", self.booted.url);
        let body = serde_json::json!({ "phase": phase });
        let call = self.client(local(1)).post(url).bearer_auth(token);
        call.json(&body).send().await.unwrap().status()
    }
}

/// The first instance of a cloud.
async fn first(world: &World) -> (RunnerName, Booted) {
    let mut booted = world.booted.subscribe();
    let some = tokio::time::timeout(PATIENCE, booted.wait_for(|booted| !booted.is_empty())).await;
    let some = some.unwrap_or_else(|_| panic!("no instance: {}", log_text()));
    let (name, booted) = some.as_ref().unwrap().first_key_value().unwrap();
    (name.clone(), booted.clone())
}
