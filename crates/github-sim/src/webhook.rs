//! `workflow_job` webhooks.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::core::guid;
use crate::state::Job;
use crate::{Error, Result, WebhookConfig, api};

/// The most deliveries that wait to be sent. What does not fit counts as failed.
const QUEUE: usize = 1_024;
/// The most deliveries that are remembered.
const KEPT: usize = 2_000;
/// How long a receiver may take; GitHub gives ten seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// One attempt to deliver an event.
#[derive(Debug, Clone)]
struct Delivery {
    id: u64,
    guid: String,
    action: String,
    redelivery: bool,
    body: String,
    delivered_at: Timestamp,
    duration: f64,
    status: &'static str,
    code: u16,
}

#[derive(Default)]
struct Log {
    kept: VecDeque<Delivery>,
    next: u64,
}

/// Sends events and remembers what became of them.
pub(crate) struct Webhooks {
    log: Mutex<Log>,
    queue: Option<mpsc::Sender<Delivery>>,
}

impl Webhooks {
    /// Starts the sender, if there is a receiver.
    pub(crate) fn start(
        config: Option<WebhookConfig>,
    ) -> Result<(Arc<Self>, Option<JoinHandle<()>>)> {
        let log = Mutex::default();
        let Some(config) = config else {
            return Ok((Arc::new(Self { log, queue: None }), None));
        };
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .no_proxy()
            .build()
            .map_err(|e| Error::new(format!("the webhook client cannot be made: {e}")))?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let queue = Some(sender);
        let webhooks = Arc::new(Self { log, queue });
        let task = tokio::spawn(send_all(webhooks.clone(), client, config, receiver));
        Ok((webhooks, Some(task)))
    }

    /// Queues the event of a job.
    pub(crate) fn job(&self, url: &str, action: &str, job: &Job) {
        if self.queue.is_none() {
            return;
        }
        let body = json!({
            "action": action,
            "workflow_job": api::shapes::job(url, job),
            "repository": api::shapes::webhook_repository(url, &job.spec.repo),
            "organization": api::shapes::webhook_organization(url, &job.spec.repo),
            "sender": api::shapes::user(url, "octocat", "User"),
        });
        self.queue(guid(), action.to_owned(), body.to_string(), false);
    }

    fn queue(&self, guid: String, action: String, body: String, redelivery: bool) {
        let Some(queue) = &self.queue else { return };
        let delivery = {
            let mut log = self.log();
            log.next += 1;
            Delivery {
                id: 7_000_000 + log.next,
                guid,
                action,
                redelivery,
                body,
                delivered_at: Timestamp::now(),
                duration: 0.0,
                status: "pending",
                code: 0,
            }
        };
        if let Err(unsent) = queue.try_send(delivery) {
            let mut delivery = unsent.into_inner();
            delivery.status = "queue full";
            self.keep(delivery);
        }
    }

    fn keep(&self, delivery: Delivery) {
        let mut log = self.log();
        if log.kept.len() == KEPT {
            log.kept.pop_front();
        }
        log.kept.push_back(delivery);
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All deliveries that are remembered, newest first.
    pub(crate) fn list(&self) -> Vec<Value> {
        self.log().kept.iter().rev().map(shape).collect()
    }

    /// One delivery with its request.
    pub(crate) fn one(&self, id: u64) -> Option<Value> {
        let log = self.log();
        let delivery = log.kept.iter().find(|delivery| delivery.id == id)?;
        let mut shape = shape(delivery);
        let payload: Value = serde_json::from_str(&delivery.body).unwrap_or_default();
        shape["request"] = json!({ "headers": {}, "payload": payload });
        shape["response"] = json!({ "headers": {}, "payload": null });
        Some(shape)
    }

    /// Sends a delivery again under its old GUID. False when it is unknown.
    pub(crate) fn redeliver(&self, id: u64) -> bool {
        let found = {
            let log = self.log();
            log.kept.iter().find(|delivery| delivery.id == id).cloned()
        };
        let Some(old) = found else { return false };
        self.queue(old.guid, old.action, old.body, true);
        true
    }
}

fn shape(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "guid": delivery.guid,
        "delivered_at": delivery.delivered_at.to_string(),
        "redelivery": delivery.redelivery,
        "duration": delivery.duration,
        "status": delivery.status,
        "status_code": delivery.code,
        "event": "workflow_job",
        "action": delivery.action,
        "installation_id": null,
        "repository_id": null,
        "throttled_at": null,
    })
}

async fn send_all(
    webhooks: Arc<Webhooks>,
    client: reqwest::Client,
    config: WebhookConfig,
    mut queue: mpsc::Receiver<Delivery>,
) {
    while let Some(mut delivery) = queue.recv().await {
        let begun = Instant::now();
        delivery.delivered_at = Timestamp::now();
        let sent = client
            .post(&config.url)
            .header("content-type", "application/json")
            .header("user-agent", "GitHub-Hookshot/sim")
            .header("x-github-event", "workflow_job")
            .header("x-github-delivery", &delivery.guid)
            .header(
                "x-hub-signature-256",
                sign(config.secret.as_bytes(), delivery.body.as_bytes()),
            )
            .body(delivery.body.clone())
            .send()
            .await;
        delivery.duration = begun.elapsed().as_secs_f64();
        (delivery.status, delivery.code) = match &sent {
            Ok(answer) if answer.status().is_success() => ("OK", answer.status().as_u16()),
            Ok(answer) => ("Invalid HTTP Response", answer.status().as_u16()),
            Err(error) if error.is_timeout() => ("timed out", 0),
            Err(_) => ("failed to connect to host", 0),
        };
        webhooks.keep(delivery);
    }
}

/// The signature of a body, as the header has it.
fn sign(secret: &[u8], body: &[u8]) -> String {
    let mut text = String::from("sha256=");
    // HMAC takes keys of any length.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) {
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn signatures_are_githubs() {
        // The example of GitHub's documentation.
        let signed = super::sign(b"It's a Secret to Everybody", b"Hello, World!");
        let wanted = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(signed, format!("sha256={wanted}"));
    }
}
