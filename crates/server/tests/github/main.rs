//! What GitHub does wrong, or differently, to a fleet as the program runs it: over the simulated
//! GitHub, with webhooks over HTTP, on a backend whose instances are there at once.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "../calls/instant.rs"]
mod instant;
#[path = "../calls/no_machine.rs"]
mod no_machine;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::StatusCode;
use runner_manager_core::{GitHubPath, Labels, NamePrefix, Secret, SystemClock};
use runner_manager_fleet::{Fleet, FleetConfig, PoolConfig};
use runner_manager_github::{Auth, GitHub, GitHubConfig, HookSpec, JitRequest};
use runner_manager_github_sim::{
    FaultAction, FaultRule, HeldRun, JobSpec, JobStatus, JsonEdit, RateLimit, Sim, SimConfig,
    Snapshot, WebhookConfig,
};
use runner_manager_server::{Redelivery, WebhookServer};
use runner_manager_store::Store;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::Instant;

use instant::Instances;

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);
/// A poll that does not come within a test.
const NO_POLL: Duration = Duration::from_secs(3_600);
const SECRET: &str = "a secret of this test";
const APP: &str = "acme/app";
/// A repository of the pool that tests make GitHub refuse.
const GONE: &str = "acme/gone";

/// A fleet of one pool of the organization `acme`, and its GitHub.
struct Deployment {
    sim: Sim,
    github: GitHub,
    store: Store,
    fleet: Arc<Fleet>,
    webhook: String,
    _webhooks: WebhookServer,
    _state: tempfile::TempDir,
}

struct Setup {
    max: usize,
    poll: Duration,
    /// Whether the simulated GitHub sends webhooks.
    webhooks: bool,
    registrations: Option<RateLimit>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max: 4,
            poll: POLL,
            webhooks: false,
            registrations: None,
        }
    }
}

impl Setup {
    /// Starts the fleet, once GitHub is as `prepare` makes it.
    async fn start(self, prepare: impl AsyncFnOnce(&Sim, &GitHub)) -> Deployment {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = held.local_addr().unwrap();
        let webhook = format!("http://{receiver}/webhook");
        let sim = Sim::start(SimConfig {
            repos: vec![APP.into(), GONE.into()],
            webhook: self.webhooks.then(|| WebhookConfig {
                url: webhook.clone(),
                secret: SECRET.into(),
            }),
            registration_limit: self.registrations,
            ..SimConfig::default()
        });
        let sim = sim.await.unwrap();
        let auth = Auth::Token(Secret::new(sim.token()));
        let github = GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap();
        prepare(&sim, &github).await;
        let instances = Arc::new(Instances::new(NamePrefix::new("test").unwrap()));
        let path = GitHubPath::parse("acme", None).unwrap();
        let labels = Labels::parse(["test"]).unwrap();
        let repositories = [APP, GONE].map(|name| {
            let (owner, repo) = name.split_once('/').unwrap();
            (owner.to_owned(), repo.to_owned())
        });
        let pool = PoolConfig {
            repositories: repositories.into(),
            grace: Duration::from_secs(60),
            ..PoolConfig::new("test", "instant", instances, path, labels, self.max)
        };
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).await.unwrap();
        let config = FleetConfig {
            poll_interval: self.poll,
            ..FleetConfig::default()
        };
        let clock = Arc::new(SystemClock);
        let fleet = Fleet::start(config, vec![pool], store.clone(), github.clone(), clock);
        let fleet = Arc::new(fleet.await.unwrap());
        drop(held);
        let secrets = vec![Secret::new(SECRET)];
        let webhooks = WebhookServer::start(receiver, secrets, fleet.clone());
        Deployment {
            webhook,
            _webhooks: webhooks.await.unwrap(),
            sim,
            github,
            store,
            fleet,
            _state: state,
        }
    }
}

impl Deployment {
    fn queue(&self, repo: &str) -> u64 {
        self.sim.queue_job(JobSpec::new(repo, &["test"])).unwrap()
    }

    async fn done(&self, jobs: &[u64]) {
        let all = |seen: &Snapshot| {
            let done = |id: &u64| {
                let mut jobs = seen.jobs.iter();
                jobs.any(|job| job.id == *id && job.status == JobStatus::Completed)
            };
            jobs.iter().all(done)
        };
        if let Err(error) = self.sim.wait_for(all, DEADLINE).await {
            panic!("{error}\n{:?}", self.fleet.snapshot().await);
        }
    }

    /// The pool's `github_error`, once it is one that fits.
    async fn github_error(&self, fits: impl Fn(Option<&str>) -> bool) -> Option<String> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let shown = self.fleet.snapshot().await.remove(0);
            if fits(shown.github_error.as_deref()) {
                return shown.github_error;
            }
            assert!(Instant::now() < deadline, "{:?}", shown.github_error);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a signed delivery.
    async fn deliver(&self, event: &str, kind: &str, body: String) -> StatusCode {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let mut signature = String::from("sha256=");
        for byte in mac.finalize().into_bytes() {
            signature += &format!("{byte:02x}");
        }
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let sent = client
            .post(&self.webhook)
            .header("content-type", kind)
            .header("x-github-event", event)
            .header("x-github-delivery", format!("delivery {signature}"))
            .header("x-hub-signature-256", signature)
            .body(body)
            .send();
        sent.await.unwrap().status()
    }
}

fn always(path: &str, action: FaultAction) -> FaultRule {
    FaultRule::new(path, u32::MAX, action)
}

/// Registers a runner that is nobody's here; it never comes online.
async fn stranger(github: &GitHub, name: &str) {
    let path = GitHubPath::parse("acme", None).unwrap();
    let request = JitRequest {
        name: name.into(),
        group: None,
        labels: Labels::parse(["other"]).unwrap(),
    };
    github.jit_config(&path, &request).await.unwrap();
}

#[tokio::test]
async fn a_repository_that_github_refuses_is_named_and_the_others_are_served() {
    for status in [404, 403, 451, 500] {
        let refused = FaultAction::status(status);
        let deployment = Setup::default();
        let deployment = deployment
            .start(async |sim, _| sim.fault(always("/repos/acme/gone/", refused)))
            .await;
        let job = deployment.queue(APP);
        deployment.done(&[job]).await;
        let named = |error: Option<&str>| error.is_some_and(|text| text.contains(GONE));
        deployment.github_error(named).await;
        deployment.sim.clear_faults();
        deployment.github_error(|error| error.is_none()).await;
    }
}

#[tokio::test]
async fn webhooks_are_acted_on_although_a_repository_was_refused_at_the_start() {
    let setup = Setup {
        poll: NO_POLL,
        webhooks: true,
        ..Setup::default()
    };
    let refused = always("/repos/acme/gone/", FaultAction::status(404));
    let deployment = setup.start(async |sim, _| sim.fault(refused)).await;
    let job = deployment.queue(APP);
    deployment.done(&[job]).await;
}

#[tokio::test]
async fn odd_records_of_others_do_not_blind_the_pool() {
    let deployment = Setup::default();
    let deployment = deployment
        .start(async |sim, github| {
            for name in ["stranger-1", "stranger-2", "stranger-3"] {
                stranger(github, name).await;
            }
            let other = JobSpec::new(APP, &["other"]);
            sim.queue_job(other.clone()).unwrap();
            sim.queue_job(other).unwrap();
            let runners = vec![
                JsonEdit::remove("/runners/0/busy"),
                JsonEdit::set("/runners/1", Value::Null),
                JsonEdit::set("/runners/2/name", Value::Null),
            ];
            sim.fault(always("/actions/runners?", FaultAction::Edit(runners)));
            let jobs = vec![
                JsonEdit::remove("/jobs/0/created_at"),
                JsonEdit::set("/jobs/0/name", Value::Null),
                JsonEdit::set("/jobs/0/started_at", json!("")),
            ];
            sim.fault(always("/jobs?", FaultAction::Edit(jobs)));
            let runs = vec![JsonEdit::set("/workflow_runs/0", json!(["odd"]))];
            sim.fault(always(
                "/repos/acme/gone/actions/runs?",
                FaultAction::Edit(runs),
            ));
        })
        .await;
    let job = deployment.queue(APP);
    deployment.done(&[job]).await;
    deployment.github_error(|error| error.is_none()).await;
}

#[tokio::test]
async fn a_page_of_runners_that_fails_for_good_does_not_blind_the_pool() {
    let deployment = Setup::default();
    let deployment = deployment
        .start(async |sim, github| {
            for number in 0..101 {
                stranger(github, &format!("stranger-{number}")).await;
            }
            sim.fault(always(
                "/actions/runners?per_page=100&page=2",
                FaultAction::status(502),
            ));
        })
        .await;
    let jobs = [deployment.queue(APP), deployment.queue(APP)];
    deployment.done(&jobs).await;
    let named = |error: Option<&str>| error.is_some_and(|text| text.contains("page=2"));
    deployment.github_error(named).await;
}

#[tokio::test]
async fn queued_jobs_of_held_runs_are_served_by_the_poll() {
    let deployment = Setup::default().start(async |_, _| {}).await;
    for held in [HeldRun::Waiting, HeldRun::Pending, HeldRun::Requested] {
        let spec = JobSpec::new(APP, &["test"]).held(held);
        let job = deployment.sim.queue_job(spec).unwrap();
        deployment.done(&[job]).await;
    }
}

#[tokio::test]
async fn a_job_that_only_a_webhook_told_waits_until_there_is_room() {
    let setup = Setup {
        max: 1,
        webhooks: true,
        ..Setup::default()
    };
    // The credential may not read the jobs of any repository.
    let refused = always("/repos/acme/", FaultAction::status(404));
    let deployment = setup.start(async |sim, _| sim.fault(refused)).await;
    let long = JobSpec::new(APP, &["test"]).lasting(Duration::from_secs(8));
    let first = deployment.sim.queue_job(long).unwrap();
    let second = deployment.queue(APP);
    deployment.done(&[first, second]).await;
}

#[tokio::test]
async fn a_cancelled_job_whose_webhook_was_lost_is_asked_for_and_forgotten() {
    let setup = Setup {
        max: 0,
        webhooks: true,
        ..Setup::default()
    };
    let deployment = setup.start(async |_, _| {}).await;
    let job = deployment.queue(APP);
    let queued = async |count: usize| {
        let deadline = Instant::now() + DEADLINE;
        while deployment.fleet.snapshot().await[0].queued_jobs != count {
            assert!(Instant::now() < deadline, "not {count} jobs queued");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    queued(1).await;
    // Nothing listens there any more, as far as GitHub knows.
    deployment
        .sim
        .fault(always("/actions/runs?", FaultAction::status(404)));
    deployment.sim.cancel_job(job);
    queued(0).await;
}

#[tokio::test]
async fn runners_are_removed_although_github_gives_no_remove_token() {
    let setup = Setup {
        max: 2,
        ..Setup::default()
    };
    let refused = always("/remove-token", FaultAction::status(403));
    let deployment = setup.start(async |sim, _| sim.fault(refused)).await;
    let jobs: Vec<u64> = (0..6).map(|_| deployment.queue(APP)).collect();
    deployment.done(&jobs).await;
}

#[tokio::test]
async fn a_used_up_budget_for_registrations_does_not_stop_the_polls() {
    let setup = Setup {
        registrations: Some(RateLimit {
            limit: 1,
            window: Duration::from_secs(10),
        }),
        ..Setup::default()
    };
    let deployment = setup.start(async |_, _| {}).await;
    let jobs: Vec<u64> = (0..2).map(|_| deployment.queue(APP)).collect();
    // The lists that were read within some seconds of the registration that used the budget up. The
    // next one need not be refused: its client may know the limit by then.
    let within = Duration::from_secs(5);
    let deadline = Instant::now() + DEADLINE;
    let read = loop {
        let exchanges = deployment.sim.exchanges();
        let is_registration = |path: &str| path.ends_with("/generate-jitconfig");
        let first = exchanges.iter().find(|e| is_registration(&e.path));
        let until = first.map(|e| e.at + within);
        let last = exchanges.last().map(|e| e.at);
        if let (Some(until), Some(last)) = (until, last)
            && last > until
        {
            let from = until - within;
            let within = exchanges.iter().filter(|e| e.at > from && e.at <= until);
            break within.filter(|e| e.method == "GET").count();
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(read > 20, "{read} reads while no registration is left");
    deployment.done(&jobs).await;
}

fn event(job: &Value) -> String {
    json!({
        "action": "queued", "workflow_job": job, "repository": { "full_name": APP },
    })
    .to_string()
}

#[tokio::test]
async fn webhooks_are_read_by_what_they_need_and_in_both_content_types() {
    let setup = Setup {
        max: 0,
        poll: NO_POLL,
        ..Setup::default()
    };
    let deployment = setup.start(async |_, _| {}).await;
    let least = event(&json!({ "id": 7, "labels": ["test"] }));
    let odd = event(&json!({
        "id": 8, "labels": ["test"], "name": null, "started_at": "", "created_at": 5,
        "run_id": null, "runner_id": "none", "runner_name": 3,
    }));
    let json = "application/json";
    for body in [least, odd] {
        assert_eq!(
            deployment.deliver("workflow_job", json, body).await,
            StatusCode::ACCEPTED
        );
    }
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("payload", &event(&json!({ "id": 9, "labels": ["test"] })));
    let form = form.finish();
    for kind in [
        "application/x-www-form-urlencoded",
        "Application/x-www-form-urlencoded; charset=utf-8",
    ] {
        let status = deployment.deliver("workflow_job", kind, form.clone()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{kind}");
    }
    let ping = deployment.deliver(
        "ping",
        "application/x-www-form-urlencoded",
        "payload=%7B%7D".into(),
    );
    assert_eq!(ping.await, StatusCode::OK);
    for id in [7, 8, 9] {
        let job = deployment.store.job(id).await.unwrap().unwrap();
        assert_eq!(job.pool.as_deref(), Some("test"), "{id}");
    }
    for body in [
        event(&json!({ "labels": ["test"] })),
        event(&json!({ "id": 1, "labels": [null] })),
    ] {
        assert_eq!(
            deployment.deliver("workflow_job", json, body).await,
            StatusCode::BAD_REQUEST
        );
    }
}

#[tokio::test]
async fn a_job_without_labels_is_for_no_pool_and_is_remembered_as_such() {
    let setup = Setup {
        poll: NO_POLL,
        ..Setup::default()
    };
    let deployment = setup.start(async |_, _| {}).await;
    for (id, labels) in [(7, json!([])), (8, Value::Null)] {
        let body = event(&json!({ "id": id, "labels": labels }));
        let status = deployment
            .deliver("workflow_job", "application/json", body)
            .await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_eq!(deployment.store.job(id).await.unwrap().unwrap().pool, None);
    }
    // A job after them is served, and nothing was launched for them.
    let body = event(&json!({ "id": deployment.queue(APP), "labels": ["test"] }));
    deployment
        .deliver("workflow_job", "application/json", body)
        .await;
    let jobs: Vec<u64> = deployment.sim.jobs().iter().map(|job| job.id).collect();
    deployment.done(&jobs).await;
    assert_eq!(deployment.sim.registrations_created(), 1);
}

#[tokio::test]
async fn escape_sequences_in_names_do_not_reach_the_store() {
    let setup = Setup {
        max: 0,
        poll: NO_POLL,
        ..Setup::default()
    };
    let deployment = setup.start(async |_, _| {}).await;
    let name = format!("\u{1b}[31mred\u{7}\u{202e}{}", "x".repeat(300_000));
    let body = event(&json!({ "id": 7, "labels": ["test"], "name": name }));
    let status = deployment
        .deliver("workflow_job", "application/json", body)
        .await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let name = deployment.store.job(7).await.unwrap().unwrap().name;
    assert!(
        name.starts_with("\\u{1b}[31mred\\u{7}\\u{202e}xx"),
        "{name}"
    );
    assert!(name.len() < 500);
    // The client is the one that everything is read through.
    assert!(deployment.github.calls() > 0);
}

#[tokio::test]
async fn a_scope_that_github_refuses_does_not_keep_the_lost_webhooks_of_another() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let auth = Auth::Token(Secret::new(sim.token()));
    let github = GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap();
    // Nobody listens there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let url: url::Url = format!("http://{}/webhook", closed.local_addr().unwrap())
        .parse()
        .unwrap();
    drop(closed);
    let scopes = ["nosuch", "acme", APP].map(|path| GitHubPath::parse(path, None).unwrap());
    for scope in &scopes[1..] {
        let hook = HookSpec {
            url: url.clone(),
            secret: Secret::new(SECRET),
        };
        github.install_hook(scope, &hook).await.unwrap();
    }
    // The deliveries of one webhook cannot be read.
    sim.fault(always(
        "/orgs/acme/hooks/2/deliveries",
        FaultAction::status(500),
    ));
    sim.queue_job(JobSpec::new(APP, &["test"])).unwrap();
    let interval = Duration::from_millis(300);
    let redelivery = Redelivery::start(github, Some(url), scopes.into(), interval);
    let deadline = Instant::now() + DEADLINE;
    let sent_again = |sim: &Sim| {
        let exchanges = sim.exchanges();
        let again = |path: &str| path.contains("/repos/acme/app/") && path.ends_with("/attempts");
        exchanges.iter().any(|e| again(&e.path))
    };
    while !sent_again(&sim) {
        assert!(Instant::now() < deadline, "{:?}", sim.exchanges());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(redelivery);
}
