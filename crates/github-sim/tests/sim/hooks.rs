//! Webhooks are installed, and what they failed to deliver is asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use jiff::Timestamp;
use runner_manager_core::{ErrorKind, Secret};
use runner_manager_github::{Auth, GitHub, GitHubConfig, HookChange, HookPlace, HookSpec};
use runner_manager_github_sim::{AppConfig, Sim, SimConfig};
use tokio::net::TcpListener;

use crate::app::keys;
use crate::support::{client, job, path, send, sim};

/// A receiver that is down until told, and what arrived: the event and the delivery's id.
#[derive(Clone, Default)]
struct Receiver {
    up: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    async fn start(&self) -> HookSpec {
        let this = self.clone();
        let receive = move |headers: HeaderMap| async move {
            if !this.up.load(Ordering::SeqCst) {
                return StatusCode::BAD_GATEWAY;
            }
            let header = |name: &str| headers[name].to_str().unwrap().to_owned();
            let one = (header("x-github-event"), header("x-github-delivery"));
            this.seen.lock().unwrap().push(one);
            StatusCode::ACCEPTED
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook", listener.local_addr().unwrap());
        let router = Router::new().route("/webhook", post(receive));
        tokio::spawn(async move { axum::serve(listener, router).await });
        HookSpec {
            url: url.parse().unwrap(),
            secret: Secret::new("It's a Secret to Everybody"),
        }
    }

    async fn until(&self, count: usize) -> Vec<(String, String)> {
        for _ in 0..1_000 {
            if self.seen.lock().unwrap().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let seen = self.seen.lock().unwrap().clone();
        assert_eq!(seen.len(), count, "{seen:?}");
        seen
    }
}

/// Waits until the newest deliveries failed.
async fn failed(github: &GitHub, place: &HookPlace, count: usize) -> Vec<u64> {
    for _ in 0..1_000 {
        let found = github.failed_deliveries(place, Timestamp::UNIX_EPOCH);
        let found = found.await.unwrap();
        if found.len() >= count {
            return found.iter().map(|delivery| delivery.id).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the deliveries did not fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_made_once_and_what_it_missed_comes_again() {
    let (sim, receiver) = (sim().await, Receiver::default());
    let (github, spec) = (client(&sim, sim.token()), receiver.start().await);
    for scope in ["acme", "acme/app"] {
        let scope = path(scope);
        assert_eq!(github.find_hook(&scope, &spec.url).await.unwrap(), None);
        let (place, change) = github.install_hook(&scope, &spec).await.unwrap();
        assert_eq!(change, HookChange::Made);
        let again = github.install_hook(&scope, &spec).await.unwrap();
        assert_eq!(again, (place.clone(), HookChange::SecretOnly));
        let HookPlace::Hook { id, .. } = place else {
            panic!("{place:?}");
        };
        let api = scope.api_path();
        let off = serde_json::json!({ "active": false, "events": ["push"] });
        send(&sim, "PATCH", &format!("{api}/hooks/{id}"), Some(off)).await;
        let mended = github.install_hook(&scope, &spec).await.unwrap();
        assert_eq!(mended.1, HookChange::Changed);
    }
    let enterprise = path("enterprises/acme-inc");
    let none = github.install_hook(&enterprise, &spec).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported, "{none}");

    // The receiver is down for 130 jobs, which takes two pages; one attempt more fails.
    let hook = github.install_hook(&path("acme/app"), &spec).await;
    let place = hook.unwrap().0;
    for _ in 0..130 {
        sim.queue_job(job()).unwrap();
    }
    let ids = failed(&github, &place, 130).await;
    github.redeliver(&place, ids[0]).await.unwrap();
    let since = Timestamp::now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(failed(&github, &place, 130).await.len(), 130);
    let late = github.failed_deliveries(&place, since).await.unwrap();
    assert!(late.len() <= 1, "{late:?}");
    receiver.up.store(true, Ordering::SeqCst);
    for id in failed(&github, &place, 130).await {
        github.redeliver(&place, id).await.unwrap();
    }
    let seen = receiver.until(130).await;
    let mut guids: Vec<&String> = seen.iter().map(|(_, guid)| guid).collect();
    guids.sort();
    guids.dedup();
    assert_eq!(guids.len(), 130, "each came once");
    github.ping_hook(&place).await.unwrap();
    assert_eq!(receiver.until(131).await[130].0, "ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_webhook_is_configured_and_sends_again() {
    let (private, public) = keys();
    let config = SimConfig {
        apps: vec![AppConfig {
            id: 4711,
            public_key_pem: public,
            token_lifetime: Duration::from_secs(3_600),
        }],
        ..SimConfig::default()
    };
    let (sim, receiver) = (Sim::start(config).await.unwrap(), Receiver::default());
    let auth = Auth::App {
        app_id: "4711".into(),
        installation_id: None,
        private_key: Secret::new(private),
    };
    let github = GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap();
    let spec = receiver.start().await;
    let made = github.install_app_hook(0, &spec).await.unwrap();
    assert_eq!(made, (HookChange::Changed, true));
    let again = github.install_app_hook(0, &spec).await.unwrap();
    assert_eq!(again.0, HookChange::SecretOnly);
    let none = github.install_app_hook(1, &spec).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported);
    sim.queue_job(job()).unwrap();
    let ids = failed(&github, &HookPlace::App(0), 1).await;
    receiver.up.store(true, Ordering::SeqCst);
    github.redeliver(&HookPlace::App(0), ids[0]).await.unwrap();
    assert_eq!(receiver.until(1).await[0].0, "workflow_job");
    assert!(github.ping_hook(&HookPlace::App(0)).await.is_err());
}
