//! The simulated GitHub of a run: `github-sim` in this process, its faults, and the way to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::RngExt;
use runner_manager_core::{Clock, Error, ErrorKind, Result, Secret};
use runner_manager_github::{Auth, GitHubConfig, Request, Response, Transport, TransportError};
use runner_manager_github_sim::{
    DeliveryFaults, FaultAction, FaultRule, InProcess, JobOffer, JobView, Observer, RateLimit,
    RunnerChoice, ScaleSetConfig, SimConfig, WebhookConfig, WebhookDelivery,
};
use url::Url;

use crate::plan::{Plan, Source};
use crate::world::World;

/// Where it believes to be. Nothing listens there.
const ADDRESS: &str = "http://127.0.0.1:9";
const TOKEN: &str = "simulated";
/// How long a poll for the messages of a scale set waits, as on GitHub.
const POLL: Duration = Duration::from_secs(50);

/// What happened in the simulated GitHub.
#[derive(Debug)]
pub(crate) enum Occurrence {
    /// A job is `queued`, `in_progress` or `completed`.
    Job(&'static str, JobView),
    /// A registration was deleted.
    RunnerDeleted(String),
    /// A webhook is on its way.
    Webhook(WebhookDelivery),
}

/// What happened and has not yet been accounted for.
#[derive(Debug, Default)]
pub(crate) struct Inbox(Mutex<Vec<Occurrence>>);

impl Inbox {
    fn push(&self, occurrence: Occurrence) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(occurrence);
    }

    pub(crate) fn take(&self) -> Vec<Occurrence> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Observer for Inbox {
    fn job(&self, action: &'static str, job: &JobView) {
        self.push(Occurrence::Job(action, job.clone()));
    }

    fn runner_deleted(&self, name: &str) {
        self.push(Occurrence::RunnerDeleted(name.to_owned()));
    }

    fn webhook(&self, delivery: WebhookDelivery) {
        self.push(Occurrence::Webhook(delivery));
    }
}

/// Makes the GitHub of a run, as unkind as its plan has it.
pub(crate) fn start(plan: &Plan, clock: Arc<dyn Clock>, inbox: Arc<Inbox>) -> Result<InProcess> {
    let sets_only = plan.pools.iter().all(|p| p.source == Source::ScaleSet);
    let config = SimConfig {
        token: Some(TOKEN.into()),
        repos: vec!["acme/app".into()],
        rate_limit: RateLimit {
            limit: u32::try_from(plan.jobs).unwrap_or(u32::MAX / 100).max(150) * 100,
            ..RateLimit::default()
        },
        runner_choice: RunnerChoice::Random,
        scale_sets: ScaleSetConfig {
            offer: JobOffer::Alternating,
            patience: POLL,
            ..ScaleSetConfig::default()
        },
        // Only what has pools that look for jobs themselves needs webhooks.
        webhook: (!sets_only).then(|| WebhookConfig {
            url: format!("{ADDRESS}/webhook"),
            secret: "simulated".into(),
        }),
        ..SimConfig::default()
    };
    let seed = plan.seed ^ 0x6174_6875;
    let github = InProcess::new(config, ADDRESS, clock, seed, inbox)
        .map_err(|e| Error::new(ErrorKind::InvalidConfig, e.to_string()))?;
    for rule in rules(plan) {
        github.fault(rule);
    }
    github.delivery_faults(DeliveryFaults {
        lost: plan.faults.webhook_lost,
        duplicated: plan.faults.webhook_twice,
    });
    Ok(github)
}

/// What goes wrong with calls; the first that strikes counts.
fn rules(plan: &Plan) -> Vec<FaultRule> {
    let faults = &plan.faults;
    let outage = FaultAction::Outage {
        least: 60,
        most: 600,
    };
    let throttled = FaultAction::Throttled { least: 1, most: 89 };
    let rules = [
        ("", outage, faults.github_down),
        ("", throttled, faults.github_throttled),
        ("", FaultAction::status(502), faults.github_error),
        ("/tenants/", FaultAction::TokenRefused, faults.token_refused),
        ("/messages?", FaultAction::EndSession, faults.session_lost),
        ("", FaultAction::DropAfterEffect, faults.github_unanswered),
    ];
    let rules = rules
        .into_iter()
        .filter(|(.., likelihood)| *likelihood > 0.0);
    rules
        .map(|(path, action, likelihood)| {
            FaultRule::new(path, u32::MAX, action).likelihood(likelihood)
        })
        .collect()
}

/// How the client reaches it.
pub(crate) fn config() -> GitHubConfig {
    #[expect(clippy::expect_used, reason = "a constant")]
    let url = Url::parse(ADDRESS).expect("a valid URL");
    GitHubConfig::new(url, Auth::Token(Secret::new(TOKEN)))
}

/// The transport from the client to the simulated GitHub, at each end of which the manager may
/// be cut off.
pub(crate) struct InProcessTransport(pub(crate) Arc<World>);

impl Transport for InProcessTransport {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        self.exchange(request).boxed()
    }

    fn jitter(&self) -> f64 {
        self.0.state().rng.random_range(0.0..1.0)
    }
}

impl InProcessTransport {
    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        let world = &self.0;
        world.step().await;
        world.lag(20..400).await;
        world.state().tally.github_calls += 1;
        let method = request.method.clone();
        let path = request.url.path().to_owned();
        let target = match request.url.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.clone(),
        };
        let uri = target.parse().map_err(|_| {
            let message = "the request has no valid path";
            TransportError::lasting(Error::new(ErrorKind::InvalidRequest, message))
        })?;
        let answer = world
            .github
            .handle(request.method, uri, request.headers, request.body)
            .await;
        {
            let mut state = world.state();
            let status = answer.as_ref().map(|answer| answer.status().as_u16());
            if method == "GET" && path.ends_with("/messages") && status == Some(200) {
                world.heard_of_sets(&mut state);
            }
            let shown = status.unwrap_or_default();
            world.note(&mut state, format_args!("{method} {path} {shown}"));
        }
        world.step().await;
        let answer = answer.ok_or_else(|| {
            let message = "no answer came from the simulated GitHub";
            TransportError::unanswered(Error::new(ErrorKind::Unreachable, message))
        })?;
        let (parts, body) = answer.into_parts();
        Ok(Response {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}
