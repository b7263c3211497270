//! Webhooks as GitHub sends them: signed, over HTTP.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use serde_json::json;
use sha2::Sha256;

use crate::{LABEL, REPO, SECRET};

/// How many deliveries are on their way at once.
const AT_ONCE: usize = 64;

/// One that sends.
pub(crate) struct Hooks {
    client: Client,
    url: String,
    next: u64,
}

/// One delivery.
pub(crate) struct Sent {
    pub(crate) at: Instant,
    pub(crate) answered: Duration,
    pub(crate) status: StatusCode,
}

impl Hooks {
    pub(crate) fn new(receiver: SocketAddr) -> Self {
        Self {
            client: Client::builder().no_proxy().build().unwrap(),
            url: format!("http://{receiver}/webhook"),
            next: 1,
        }
    }

    /// Tells of so many new jobs, as fast as they are answered.
    pub(crate) async fn burst(&mut self, count: u64) -> Vec<Sent> {
        let ids = self.next..self.next + count;
        self.next += count;
        let bodies: Vec<(u64, String)> = ids.map(|id| (id, body(id))).collect();
        stream::iter(bodies)
            .map(|(id, body)| self.send(id, body))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }

    async fn send(&self, id: u64, body: String) -> Sent {
        let request = self
            .client
            .post(&self.url)
            .header("x-github-event", "workflow_job")
            .header("x-github-delivery", id.to_string())
            .header("x-hub-signature-256", sign(&body))
            .body(body);
        let at = Instant::now();
        let status = request.send().await.unwrap().status();
        Sent {
            at,
            answered: at.elapsed(),
            status,
        }
    }
}

fn body(id: u64) -> String {
    let now = Timestamp::now();
    json!({
        "action": "queued",
        "workflow_job": {
            "id": id, "run_id": id, "name": "build", "labels": [LABEL], "status": "queued",
            "conclusion": null, "runner_id": null, "runner_name": null, "created_at": now,
            "started_at": now, "completed_at": null,
        },
        "repository": { "full_name": REPO },
    })
    .to_string()
}

fn sign(body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let mut text = String::from("sha256=");
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}
