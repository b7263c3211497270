//! Webhooks and their deliveries.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::environment::Environment;
use crate::fault::Faults;
use crate::state::{Job, Scope};
use crate::{Error, Observer, Result, WebhookConfig, WebhookDelivery, api};

/// The most deliveries that wait to be sent: enough for thousands of jobs at once. What does not
/// fit counts as failed.
const QUEUE: usize = 16_384;
/// The most deliveries that are remembered.
const KEPT: usize = 2_000;
/// How long a receiver may take; GitHub gives ten seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The id of the Apps' webhook.
pub(crate) const APP_HOOK: u64 = 1;

/// A webhook.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    pub(crate) id: u64,
    /// Where its events come from; everywhere for an App's.
    pub(crate) scope: Option<Scope>,
    pub(crate) url: String,
    pub(crate) content_type: String,
    pub(crate) secret: String,
    pub(crate) events: Vec<String>,
    pub(crate) active: bool,
    pub(crate) made_at: Timestamp,
}

/// What changes at a webhook; what is left out stays.
#[derive(Debug, Default)]
pub(crate) struct HookChange {
    pub(crate) url: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) secret: Option<String>,
    pub(crate) events: Option<Vec<String>>,
    pub(crate) active: Option<bool>,
}

impl Hook {
    fn new(id: u64, scope: Option<Scope>, made_at: Timestamp) -> Self {
        Self {
            id,
            scope,
            url: String::new(),
            content_type: "form".into(),
            secret: String::new(),
            events: vec!["push".into()],
            active: true,
            made_at,
        }
    }

    /// Whose webhook it is: the kind and the id.
    fn target(&self) -> (&'static str, u64) {
        match &self.scope {
            None => ("integration", self.id),
            Some(Scope::Org(org)) => ("organization", api::shapes::number(org)),
            Some(Scope::Enterprise(name)) => ("business", api::shapes::number(name)),
            Some(scope @ Scope::Repo(..)) => ("repository", api::shapes::number(&scope.web_path())),
        }
    }

    fn take(&mut self, change: HookChange) {
        self.url = change.url.unwrap_or_else(|| std::mem::take(&mut self.url));
        if let Some(kind) = change.content_type {
            self.content_type = kind;
        }
        if let Some(secret) = change.secret {
            self.secret = secret;
        }
        if let Some(events) = change.events {
            self.events = events;
        }
        self.active = change.active.unwrap_or(self.active);
    }

    fn wants(&self, event: &str, repo: &str) -> bool {
        let serves = self.scope.as_ref().is_none_or(|scope| scope.serves(repo));
        self.active
            && serves
            && !self.url.is_empty()
            && self
                .events
                .iter()
                .any(|known| known == event || known == "*")
    }
}

/// One attempt to deliver an event.
#[derive(Debug, Clone)]
struct Delivery {
    id: u64,
    hook: u64,
    guid: String,
    event: &'static str,
    action: Option<String>,
    job: Option<u64>,
    redelivery: bool,
    body: String,
    delivered_at: Timestamp,
    duration: f64,
    status: &'static str,
    code: u16,
}

#[derive(Default)]
struct Log {
    hooks: Vec<Hook>,
    /// How many were ever made.
    made: u64,
    kept: VecDeque<Delivery>,
    next: u64,
}

/// Sends events and remembers what became of them.
pub(crate) struct Webhooks {
    log: Mutex<Log>,
    outlet: Outlet,
    environment: Environment,
    faults: Arc<Faults>,
}

/// Where deliveries go.
enum Outlet {
    /// To the task that sends them over HTTP.
    Http(mpsc::Sender<Delivery>),
    /// To the program that holds the simulator.
    Observer(Arc<dyn Observer>),
}

impl Webhooks {
    /// Starts the task that sends over HTTP.
    pub(crate) fn start(
        config: Option<WebhookConfig>,
        environment: Environment,
        faults: Arc<Faults>,
    ) -> Result<(Arc<Self>, JoinHandle<()>)> {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .no_proxy()
            .build()
            .map_err(|e| Error::new(format!("the webhook client cannot be made: {e}")))?;
        let (queue, receiver) = mpsc::channel(QUEUE);
        let webhooks = Self::new(config, Outlet::Http(queue), environment, faults);
        let task = tokio::spawn(send_all(webhooks.clone(), client, receiver));
        Ok((webhooks, task))
    }

    /// Gives all deliveries to an observer.
    pub(crate) fn observed(
        config: Option<WebhookConfig>,
        observer: Arc<dyn Observer>,
        environment: Environment,
        faults: Arc<Faults>,
    ) -> Arc<Self> {
        Self::new(config, Outlet::Observer(observer), environment, faults)
    }

    fn new(
        config: Option<WebhookConfig>,
        outlet: Outlet,
        environment: Environment,
        faults: Arc<Faults>,
    ) -> Arc<Self> {
        let mut app = Hook::new(APP_HOOK, None, environment.clock.now());
        app.events = vec!["workflow_job".into()];
        if let Some(config) = config {
            app.url = config.url;
            app.secret = config.secret;
            app.content_type = "json".into();
        }
        let log = Log {
            hooks: vec![app],
            ..Log::default()
        };
        Arc::new(Self {
            log: Mutex::new(log),
            outlet,
            environment,
            faults,
        })
    }

    pub(crate) fn hook(&self, id: u64) -> Option<Hook> {
        self.log().hooks.iter().find(|hook| hook.id == id).cloned()
    }

    pub(crate) fn hooks_of(&self, scope: &Scope) -> Vec<Hook> {
        let of = |hook: &&Hook| hook.scope.as_ref().is_some_and(|own| own.is(scope));
        self.log().hooks.iter().filter(of).cloned().collect()
    }

    pub(crate) fn make_hook(&self, scope: Scope, change: HookChange) -> Hook {
        let mut log = self.log();
        log.made += 1;
        let mut hook = Hook::new(
            APP_HOOK + log.made,
            Some(scope),
            self.environment.clock.now(),
        );
        hook.take(change);
        log.hooks.push(hook.clone());
        hook
    }

    pub(crate) fn change_hook(&self, id: u64, change: HookChange) {
        let mut log = self.log();
        if let Some(hook) = log.hooks.iter_mut().find(|hook| hook.id == id) {
            hook.take(change);
        }
    }

    pub(crate) fn drop_hook(&self, id: u64) {
        self.log().hooks.retain(|hook| hook.id != id);
    }

    /// Queues the event of a job, for every webhook that wants it.
    pub(crate) fn job(&self, url: &str, action: &str, job: &Job) {
        let wants = |hook: &&Hook| hook.wants("workflow_job", &job.spec.repo);
        let hooks: Vec<u64> = {
            let log = self.log();
            log.hooks.iter().filter(wants).map(|hook| hook.id).collect()
        };
        if hooks.is_empty() {
            return;
        }
        let body = json!({
            "action": action,
            "workflow_job": api::shapes::job(url, job),
            "repository": api::shapes::webhook_repository(url, &job.spec.repo),
            "organization": api::shapes::webhook_organization(url, &job.spec.repo),
            "sender": api::shapes::user(url, "octocat", "User"),
        });
        let body = body.to_string();
        for hook in hooks {
            let mut delivery = self.delivery(hook, "workflow_job", body.clone());
            delivery.action = Some(action.to_owned());
            delivery.job = Some(job.id);
            self.queue(delivery);
        }
    }

    /// Queues a `ping`.
    pub(crate) fn ping(&self, hook: &Hook) {
        let body = json!({ "zen": "Keep it logically awesome.", "hook_id": hook.id });
        self.queue(self.delivery(hook.id, "ping", body.to_string()));
    }

    fn queue(&self, mut delivery: Delivery) {
        {
            let mut log = self.log();
            log.next += 1;
            delivery.id = 7_000_000 + log.next;
        }
        let arrivals = self.faults.arrivals();
        if arrivals == 0 {
            delivery.status = "failed to connect to host";
            self.keep(delivery);
            return;
        }
        for _ in 1..arrivals {
            self.send(delivery.clone());
        }
        self.send(delivery);
    }

    fn send(&self, mut delivery: Delivery) {
        match &self.outlet {
            Outlet::Http(queue) => {
                if let Err(unsent) = queue.try_send(delivery) {
                    let mut delivery = unsent.into_inner();
                    delivery.status = "queue full";
                    self.keep(delivery);
                }
            }
            Outlet::Observer(observer) => {
                observer.webhook(WebhookDelivery {
                    guid: delivery.guid.clone(),
                    event: delivery.event,
                    action: delivery.action.clone(),
                    job: delivery.job,
                    body: delivery.body.clone(),
                });
                (delivery.status, delivery.code) = ("OK", 200);
                self.keep(delivery);
            }
        }
    }

    fn delivery(&self, hook: u64, event: &'static str, body: String) -> Delivery {
        Delivery {
            id: 0,
            hook,
            guid: self.environment.rng.guid(),
            event,
            action: None,
            job: None,
            redelivery: false,
            body,
            delivered_at: self.environment.clock.now(),
            duration: 0.0,
            status: "pending",
            code: 0,
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

    /// All deliveries of a webhook that are remembered, newest first.
    pub(crate) fn list(&self, hook: u64) -> Vec<Value> {
        let log = self.log();
        let of = log.kept.iter().rev().filter(|d| d.hook == hook);
        of.map(shape).collect()
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
        self.queue(Delivery {
            redelivery: true,
            ..old
        });
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
        "event": delivery.event,
        "action": delivery.action,
        "installation_id": null,
        "repository_id": null,
        "throttled_at": null,
    })
}

async fn send_all(
    webhooks: Arc<Webhooks>,
    client: reqwest::Client,
    mut queue: mpsc::Receiver<Delivery>,
) {
    while let Some(mut delivery) = queue.recv().await {
        let Some(hook) = webhooks.hook(delivery.hook) else {
            continue;
        };
        let begun = Instant::now();
        delivery.delivered_at = webhooks.environment.clock.now();
        let is_form = hook.content_type == "form";
        let (kind, body) = if is_form {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("payload", &delivery.body);
            ("application/x-www-form-urlencoded", form.finish())
        } else {
            ("application/json", delivery.body.clone())
        };
        let (target, target_id) = hook.target();
        let sent = client
            .post(&hook.url)
            .header("content-type", kind)
            .header("x-github-hook-id", hook.id)
            .header("x-github-hook-installation-target-type", target)
            .header("x-github-hook-installation-target-id", target_id)
            .header("user-agent", "GitHub-Hookshot/sim")
            .header("x-github-event", delivery.event)
            .header("x-github-delivery", &delivery.guid)
            .header(
                "x-hub-signature-256",
                sign(hook.secret.as_bytes(), body.as_bytes()),
            )
            .body(body)
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
