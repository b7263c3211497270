//! Webhooks, at a receiver of the test's own.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use runner_manager_github_sim::{JobStatus, Sim, SimConfig, WebhookConfig};
use serde_json::Value;
use sha2::Sha256;
use tokio::net::TcpListener;

use crate::support::{DEADLINE, client, folder, is, job, path, request, run};

const SECRET: &str = "It's a Secret to Everybody";

/// What a delivery was: its id, whether its signature is right, its body.
type Seen = Arc<Mutex<Vec<(String, bool, Value)>>>;

/// A receiver that refuses the first delivery.
async fn receiver() -> (String, Seen) {
    let seen = Seen::default();
    let log = seen.clone();
    let receive = move |headers: HeaderMap, body: Bytes| async move {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(&body);
        let mut wanted = String::from("sha256=");
        for byte in mac.finalize().into_bytes() {
            wanted += &format!("{byte:02x}");
        }
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let right =
            header("x-hub-signature-256") == wanted && header("x-github-event") == "workflow_job";
        assert_eq!(header("x-github-hook-id"), "1");
        let target = header("x-github-hook-installation-target-type");
        assert_eq!(
            (target, header("x-github-hook-installation-target-id")),
            ("integration".into(), "1".into())
        );
        let body = serde_json::from_slice(&body).unwrap();
        let mut log = log.lock().unwrap();
        log.push((header("x-github-delivery"), right, body));
        if log.len() == 1 {
            StatusCode::BAD_GATEWAY
        } else {
            StatusCode::ACCEPTED
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let router = Router::new().route("/hook", post(receive));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, seen)
}

async fn until(seen: &Seen, count: usize) -> Vec<(String, bool, Value)> {
    for _ in 0..1_000 {
        if seen.lock().unwrap().len() >= count {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), count);
    seen
}

/// A job that a runner has run, and its events at the receiver.
pub(crate) struct Played {
    sim: Sim,
    job: u64,
    seen: Seen,
    pub(crate) events: Vec<(String, bool, Value)>,
    /// The App's proof of itself.
    proof: String,
    http: reqwest::Client,
}

/// Runs a job on a stand-in runner, at a GitHub that sends webhooks.
pub(crate) async fn play() -> Played {
    let (url, seen) = receiver().await;
    let (private, public) = {
        let key =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
                .unwrap();
        (key.serialize_pem(), key.public_key_pem())
    };
    let config = SimConfig {
        webhook: Some(WebhookConfig {
            url,
            secret: SECRET.into(),
        }),
        apps: vec![runner_manager_github_sim::AppConfig {
            id: 1,
            public_key_pem: public,
            token_lifetime: std::time::Duration::from_secs(60),
        }],
        ..SimConfig::default()
    };
    let (sim, folder) = (Sim::start(config).await.unwrap(), folder());
    let github = client(&sim, sim.token());
    let id = sim.queue_job(job()).unwrap();
    let jit = github
        .jit_config(&path("acme/app"), &request("app-1"))
        .await
        .unwrap();
    let mut runner = run(folder.path(), &jit.config).spawn().unwrap();
    sim.wait_for(is(id, JobStatus::Completed), DEADLINE)
        .await
        .unwrap();
    runner.wait().unwrap();
    let events = until(&seen, 3).await;
    Played {
        sim,
        job: id,
        seen,
        events,
        proof: proof(&private),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
    }
}

impl Played {
    fn url(&self) -> String {
        format!("{}/app/hook/deliveries", self.sim.api_url())
    }

    /// GitHub's list of the deliveries.
    pub(crate) async fn deliveries(&self) -> Value {
        let list = self.http.get(self.url()).bearer_auth(&self.proof);
        list.send().await.unwrap().json().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_sends_three_signed_events_and_a_lost_one_comes_again() {
    let played = play().await;
    let actions: Vec<&str> = played
        .events
        .iter()
        .map(|(.., body)| body["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["queued", "in_progress", "completed"]);
    for (_, signed, body) in &played.events {
        assert!(signed);
        assert_eq!(body["workflow_job"]["id"], played.job);
    }

    let list = played.deliveries().await;
    let failed = list
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["status_code"] == 502)
        .unwrap();
    let attempt = format!("{}/{}/attempts", played.url(), failed["id"]);
    let attempt = played.http.post(attempt).bearer_auth(&played.proof);
    assert_eq!(attempt.send().await.unwrap().status(), 202);
    let events = until(&played.seen, 4).await;
    assert_eq!(events[3].0, events[0].0, "the same delivery id");
    assert_eq!(events[3].2, events[0].2, "the same body");
}

/// A proof of the App, good for five minutes.
fn proof(key: &str) -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = serde_json::json!({ "iss": "1", "iat": now, "exp": now + 300 });
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(key.as_bytes()).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    jsonwebtoken::encode(&header, &claims, &key).unwrap()
}
