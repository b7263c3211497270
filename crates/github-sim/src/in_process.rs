//! A simulator without a server: requests and runners are those of the program that holds it.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::service::TowerToHyperService;
use jiff::fmt::rfc2822::DateTimePrinter;
use runner_manager_core::Clock;
use serde_json::Value;

use crate::core::{Core, Parts, Shared};
use crate::environment::{Environment, Rng};
use crate::fault::Faults;
use crate::serve::{self, Routes};
use crate::webhook::Webhooks;
use crate::{
    Conclusion, DeliveryFaults, FaultRule, JobSpec, Observer, Result, RunnerView, SimConfig, sim,
};

/// The largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A simulator that is driven within this process: it opens no port, starts no task, takes time
/// from tokio and the given clock, and makes every choice by its seed. So it works in paused
/// time, and the same calls give the same answers.
pub struct InProcess {
    core: Shared,
    routes: Routes,
}

impl InProcess {
    /// Makes a simulator that believes to be at `url`, such as `http://127.0.0.1:9`.
    /// [`SimConfig::port`] and the address of [`SimConfig::webhook`] are not used: deliveries go
    /// to the observer.
    ///
    /// # Errors
    /// When a repository is not `owner/name`, or times make no sense.
    pub fn new(
        config: SimConfig,
        url: &str,
        clock: Arc<dyn Clock>,
        seed: u64,
        observer: Arc<dyn Observer>,
    ) -> Result<Self> {
        sim::check(&config)?;
        let environment = Environment {
            clock,
            rng: Rng::new(seed),
        };
        let faults = Arc::new(Faults::new(environment.rng.clone()));
        let webhooks = Webhooks::observed(
            config.webhook.clone(),
            observer.clone(),
            environment.clone(),
            faults.clone(),
        );
        let parts = Parts {
            url: url.trim_end_matches('/').to_owned(),
            environment,
            faults,
            webhooks,
            observer: Some(observer),
        };
        let core = Arc::new(Core::new(config, parts));
        let routes = TowerToHyperService::new(sim::routes(&core));
        Ok(Self { core, routes })
    }

    /// Handles a request; none when a fault drops its connection, before or after its effect.
    pub async fn handle(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Option<Response<Vec<u8>>> {
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let response = serve::answer(&self.core, self.routes.clone(), request).await?;
        let (mut parts, body) = response.into_parts();
        // The server adds it elsewhere.
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&self.core.now());
        if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
            parts.headers.insert(header::DATE, date);
        }
        match to_bytes(body, MAX_ANSWER).await {
            Ok(bytes) => Some(Response::from_parts(parts, bytes.into())),
            Err(_) => {
                parts.status = StatusCode::INTERNAL_SERVER_ERROR;
                Some(Response::from_parts(parts, Vec::new()))
            }
        }
    }

    /// The personal token that is taken.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.core.token
    }

    /// Queues a job and gives its id.
    ///
    /// # Errors
    /// When the repository is not `owner/name`, or 10,000 jobs wait already.
    pub fn queue_job(&self, spec: JobSpec) -> Result<u64> {
        sim::queue(&self.core, spec)
    }

    /// Cancels a job, waiting or running. False when it is unknown or over.
    pub fn cancel_job(&self, id: u64) -> bool {
        self.core.change(|state| state.cancel_job(id))
    }

    /// All registered runners, in order of id.
    #[must_use]
    pub fn runners(&self) -> Vec<RunnerView> {
        self.core.state().runner_views()
    }

    /// Whether this registration exists.
    #[must_use]
    pub fn has_runner(&self, id: u64) -> bool {
        self.core.state().runner(id).is_some()
    }

    /// The runner's id that a just-in-time config names.
    #[must_use]
    pub fn runner_of(jit_config: &str) -> Option<u64> {
        let decode = |text: &str| -> Option<Value> {
            serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()
        };
        let files = decode(jit_config)?;
        decode(files[".runner"].as_str()?)?["agentId"].as_u64()
    }

    /// A runner's listener connects; false when its registration is gone. It begins a job as
    /// soon as it is given one.
    pub fn connect(&self, runner: u64) -> bool {
        self.core.change(|state| state.connect(runner))
    }

    /// Gives a runner no job from now on, although it shows as online and idle. False when it is
    /// unknown.
    pub fn make_ghost(&self, runner: u64) -> bool {
        self.core.change(|state| state.make_ghost(runner))
    }

    /// A listener is gone without a word: it gets no job any more, and shows as online until
    /// GitHub [notices](Self::notice).
    pub fn vanish(&self, runner: u64) {
        self.core.change(|state| state.vanish(runner));
    }

    /// GitHub notices that a listener is gone: its job has failed.
    pub fn notice(&self, runner: u64) {
        self.core.change(|state| state.lose(runner));
    }

    /// A runner has ended its job, and is gone with it.
    pub fn finish_job(&self, runner: u64, job: u64, conclusion: Conclusion) {
        self.core
            .change(|state| state.finish(runner, job, conclusion));
    }

    /// Makes the next matching requests fail.
    pub fn fault(&self, rule: FaultRule) {
        self.core.faults.add(rule);
    }

    /// Makes webhook deliveries go wrong from now on.
    pub fn delivery_faults(&self, faults: DeliveryFaults) {
        self.core.faults.set_deliveries(faults);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.core.faults.clear();
    }

    /// How many requests and deliveries faults have hit.
    #[must_use]
    pub fn faults_hit(&self) -> u64 {
        self.core.faults.hits()
    }
}
