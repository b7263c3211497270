//! One manager, five pools, five jobs: from the launch to the events.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use runner_manager_core::{Secret, SupportServiceConfig, SystemClock};
use runner_manager_fleet::{CallbackConfig, Fleet, FleetConfig};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use runner_manager_github_sim::{Conclusion, JobSpec, JobStatus, Sim, SimConfig};
use runner_manager_server::{InstanceServer, TlsFiles};
use runner_manager_store::{Live, RunnerFilter, RunnerState, Store};
use serde_json::{Value, json};

use crate::cloud::{Archive, Kept, run, unpack};
use crate::docker;
use crate::expectations;
use crate::fleet::{GROUP, Plan, support};
use crate::peers::{self, Proxy};

/// How long the whole may take, and one boot.
const PATIENCE: Duration = Duration::from_secs(400);
const BOOT: Duration = Duration::from_secs(240);

/// The machine of the root file system, in Debian's word, and how much longer things take there.
fn machine() -> (String, u32) {
    match std::env::var("RUNNER_MANAGER_MACHINE") {
        Ok(other) if other != "amd64" => (other, 4),
        _ => ("amd64".into(), 1),
    }
}
/// The proxy's password, which a shell, YAML and a URL would all trip over.
pub(crate) const PASSWORD: &str = "p$(id)'s\"`w*; &|~!@:/%#?🦀";
/// Variables of the pool: each would be code somewhere.
pub(crate) const NASTY: [(&str, &str); 5] = [
    (
        "QUOTES",
        "it's \"quoted\" $(touch /owned) `touch /owned` ${HOME}",
    ),
    ("LINES", "a\nb\n\nc\n"),
    ("EMOJI", "🦀 grüße \u{202e}"),
    ("YAML", "- {a: [b, *c]} # no\t| > !!str %n"),
    ("ESCAPES", "\\n \\\\ \u{1b}[31m {{ x }} <x> &"),
];

/// Notes what a job sees, and what it can see of the runner.
const SPY: &str = "#!/bin/sh
cat /proc/self/environ >\"$HOME/seen\"
for comm in /proc/[0-9]*/comm; do
    if [ \"$(cat \"$comm\")\" = Runner.Listener ]; then cat \"${comm%comm}environ\" >\"$HOME/listener\"; fi
done
id >\"$HOME/who\"
cat /run/cloud-init/status.json /run/cloud-init/result.json >\"$HOME/notes\" 2>/dev/null || :
! cat /opt/runner-manager/credential /opt/runner-manager/callback-token /opt/runner-manager/secrets.sh 2>/dev/null >\"$HOME/stolen\"
";

/// The log of the manager, to search.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the log")).into_owned()
    }
}

/// A certificate authority of its own, and a certificate for this machine.
fn certificates(folder: &Path) -> (String, TlsFiles) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "the test's authority");
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).expect("an authority");
    let server_key = rcgen::KeyPair::generate().expect("a key");
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("parameters");
    let server = server
        .signed_by(&server_key, &authority)
        .expect("a certificate");
    let files = TlsFiles {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
    };
    std::fs::write(&files.certificate, server.pem()).expect("a file");
    std::fs::write(&files.key, server_key.serialize_pem()).expect("a file");
    (authority.pem(), files)
}

/// The runner program as an archive to download.
fn runner_archive(lower: &Path, folder: &Path) -> (Vec<u8>, String) {
    let file = folder.join("runner.tar.gz").display().to_string();
    let from = lower.join("opt/actions-runner").display().to_string();
    run("tar", &["-C", &from, "-czf", &file, "."]);
    let digest = run("sha256sum", &[&file]);
    let digest = digest.split(' ').next().expect("a digest").to_owned();
    (std::fs::read(file).expect("the archive"), digest)
}

pub(crate) struct Outcome {
    pub(crate) archive: BTreeMap<String, Kept>,
    pub(crate) events: Vec<Value>,
    pub(crate) conclusions: BTreeMap<String, Option<Conclusion>>,
    pub(crate) proxy_log: String,
    pub(crate) policy: Vec<(String, String)>,
    /// Where the registry mirror is.
    pub(crate) mirror: String,
    pub(crate) log: String,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) authority: String,
    pub(crate) steps: BTreeMap<String, Vec<RunnerState>>,
    pub(crate) sim_token: String,
    // Serves until the checks are done.
    _server: InstanceServer,
    _fleet: Arc<Fleet>,
}

fn lower() -> PathBuf {
    let archive = std::env::var_os("RUNNER_MANAGER_ROOTFS");
    let archive =
        archive.expect("the root file system; `cargo xtask test --only bootstrap` gives it");
    unpack(Path::new(&archive))
}

#[expect(clippy::too_many_lines, reason = "one run, told in its order")]
async fn whole_run(folder: &Path, log: &Log) -> Outcome {
    let (machine, slower) = machine();
    let lower = lower();
    let sim = SimConfig {
        orgs: vec!["acme".into()],
        groups: vec![GROUP.into()],
        ..SimConfig::default()
    };
    let sim = Sim::start(sim).await.expect("a GitHub");
    let (runner, digest) = runner_archive(&lower, folder);
    let files = peers::files(runner, docker::registry(folder)).await;
    let (policy, asked) = peers::policy().await;
    let proxy = Proxy::start(folder, "joe", PASSWORD);
    let (authority, tls) = certificates(folder);
    // The server needs its fleet, the fleet its address: the port is chosen beforehand.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let archive = Archive::default();
    let plan = Plan {
        lower: &lower,
        folder,
        archive: archive.clone(),
        boot_deadline: BOOT * slower,
        events: folder.join("events.log"),
        policy,
        support: SupportServiceConfig {
            dockerhub_mirror: format!("http://{files}").parse().ok(),
            ..support(proxy.port, PASSWORD)
        },
    };
    let callback = || {
        Some(CallbackConfig {
            url: format!("https://{address}").parse().expect("a URL"),
            claim_within: BOOT * slower,
            networks: Vec::new(),
        })
    };
    let base = json!({
        "machine": machine,
        "update_packages": false,
        "ca_certificates": [authority],
        "pre_job_script": SPY,
        "env": NASTY.iter().copied().collect::<BTreeMap<_, _>>(),
    });
    let mut download = base.clone();
    download["runner"] = json!({
        "path": "/srv/actions-runner",
        "download": {"url": format!("http://{files}/runner.tar.gz"), "sha256": digest},
    });
    let mut pools = vec![plan.pool("yes", download, callback())];
    for mood in ["no", "error", "silent"] {
        pools.push(plan.pool(mood, base.clone(), callback()));
    }
    pools.push(plan.pool("token", base.clone(), None));
    let names: Vec<String> = pools.iter().map(|pool| pool.name.clone()).collect();

    let store = Store::open(&folder.join("state")).await.expect("a store");
    let auth = Auth::Token(Secret::new(sim.token()));
    let github = GitHubConfig::new(sim.url().parse().expect("a URL"), auth);
    let github = GitHub::new(github).expect("a client");
    let rhythm = FleetConfig {
        poll_interval: Duration::from_millis(100),
        cleanup_interval: Duration::from_secs(5),
        ..FleetConfig::default()
    };
    let fleet = Fleet::start(rhythm, pools, store.clone(), github, Arc::new(SystemClock)).await;
    let fleet = Arc::new(fleet.expect("a fleet"));
    let server = InstanceServer::start(address, Some(tls), fleet.clone()).await;
    let server = server.expect("a server for instances");
    let mut jobs = BTreeMap::new();
    for name in &names {
        // Long enough for a look at GitHub to see it at work: one whose end is told before it was
        // seen to begin looks as if it still waited, and is given a second runner.
        let job = JobSpec {
            workflow: "it's a \"workflow\" $(id) 🦀".into(),
            ..JobSpec::new("acme/app", &["self-hosted", name])
        };
        let job = job.lasting(Duration::from_secs(3));
        jobs.insert(name.clone(), sim.queue_job(job).expect("a job"));
    }
    let begin = Instant::now();
    loop {
        let done = jobs.values().all(|id| {
            sim.job(*id)
                .is_some_and(|job| job.status == JobStatus::Completed)
        });
        let filter = RunnerFilter {
            pool: None,
            live_only: Live::Yes,
        };
        if done && store.runners(filter).await.expect("runners").is_empty() {
            break;
        }
        if begin.elapsed() > PATIENCE * slower {
            for (name, kept) in archive.lock().expect("archive").iter() {
                eprintln!("=== {name}\n{:?}", kept.files);
            }
            panic!("not done in time\n{}\n{:?}", log.text(), sim.jobs());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A cleanup, with its event.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let events = std::fs::read_to_string(&plan.events).expect("events");
    let mut steps = BTreeMap::new();
    let filter = RunnerFilter {
        pool: None,
        live_only: Live::All,
    };
    for row in store.runners(filter).await.expect("runners") {
        let (_, life) = store
            .runner(&row.name)
            .await
            .expect("a runner")
            .expect("it is known");
        steps.insert(row.pool, life.into_iter().map(|step| step.state).collect());
    }
    let conclusion = |id: &u64| sim.job(*id).and_then(|job| job.conclusion);
    Outcome {
        archive: archive.lock().expect("archive").clone(),
        events: events
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect(),
        conclusions: jobs
            .iter()
            .map(|(name, id)| (name.clone(), conclusion(id)))
            .collect(),
        proxy_log: proxy.log(),
        policy: asked.lock().expect("asked").clone(),
        mirror: files,
        log: log.text(),
        address,
        authority,
        steps,
        sim_token: sim.token().to_owned(),
        _server: server,
        _fleet: fleet,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_boot_run_their_jobs_and_are_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Log::start();
    let outcome = whole_run(folder.path(), &log).await;
    expectations::jobs_end_as_the_policy_says(&outcome);
    expectations::values_arrive_intact(&outcome);
    expectations::services_are_set_up(&outcome);
    docker::pulls_through_the_mirror(&outcome, folder.path());
    expectations::no_secret_is_left_behind(&outcome);
    expectations::events_tell_it_all(&outcome);
    expectations::calls_of_others_are_refused(&outcome, folder.path(), &log);
}
