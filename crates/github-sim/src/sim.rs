//! The handle of a running simulator.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::core::{Core, Parts, Shared};
use crate::environment::Environment;
use crate::exchanges::Exchange;
use crate::fault::Faults;
use crate::webhook::Webhooks;
use crate::{
    Error, FaultRule, JobSpec, JobView, Result, RunnerView, ScaleSetView, SimConfig, Snapshot, api,
    control, runner_side, serve,
};

/// A running simulator. Dropped, it stops and closes its connections.
pub struct Sim {
    core: Shared,
    tasks: Vec<JoinHandle<()>>,
}

impl Sim {
    /// Starts a simulator on 127.0.0.1.
    ///
    /// # Errors
    /// When the port cannot be had, a repository is not `owner/name`, or times make no sense.
    pub async fn start(config: SimConfig) -> Result<Self> {
        check(&config)?;
        let port = config.port;
        let listener = TcpListener::bind(("127.0.0.1", port))
            .await
            .map_err(|e| Error::new(format!("cannot listen on 127.0.0.1:{port}: {e}")))?;
        let address = listener
            .local_addr()
            .map_err(|e| Error::new(format!("the port cannot be read: {e}")))?;
        let environment = Environment::default();
        let faults = Arc::new(Faults::new(environment.rng.clone()));
        let hook = config.webhook.clone();
        let (webhooks, sender) = Webhooks::start(hook, environment.clone(), faults.clone())?;
        let silence = config.silence;
        let parts = Parts {
            url: format!("http://{address}"),
            environment,
            faults,
            webhooks,
            observer: None,
        };
        let core = Arc::new(Core::new(config, parts));
        let router = routes(&core);
        let tasks = vec![
            sender,
            tokio::spawn(serve::serve(core.clone(), listener, router)),
            tokio::spawn(sweep(core.clone(), silence)),
        ];
        Ok(Self { core, tasks })
    }

    /// The base URL: what `config.sh --url` begins with. A GitHub Enterprise Server to clients.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.core.url
    }

    /// The URL of the REST API.
    #[must_use]
    pub fn api_url(&self) -> String {
        self.core.api_url()
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
        queue(&self.core, spec)
    }

    /// Cancels a job, waiting or running. False when it is unknown or over.
    pub fn cancel_job(&self, id: u64) -> bool {
        self.core.change(|state| state.cancel_job(id))
    }

    /// Gives a runner no job from now on, although it shows as online and idle, as GitHub does now
    /// and then. False when it is unknown.
    pub fn make_ghost(&self, runner: u64) -> bool {
        self.core.change(|state| state.make_ghost(runner))
    }

    /// Whether runners that register from now on are given no job, although they show as online
    /// and idle.
    pub fn make_ghosts(&self, ghosts: bool) {
        self.core.change(|state| state.make_ghosts(ghosts));
    }

    /// All jobs, in order of id.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobView> {
        self.core.state().job_views()
    }

    /// One job.
    #[must_use]
    pub fn job(&self, id: u64) -> Option<JobView> {
        self.jobs().into_iter().find(|job| job.id == id)
    }

    /// All registered runners, in order of id.
    #[must_use]
    pub fn runners(&self) -> Vec<RunnerView> {
        self.core.state().runner_views()
    }

    /// All scale sets, in order of id.
    #[must_use]
    pub fn scale_sets(&self) -> Vec<ScaleSetView> {
        self.core.state().scale_set_views()
    }

    /// How many runners were ever registered.
    #[must_use]
    pub fn registrations_created(&self) -> u64 {
        self.core.state().registrations_created()
    }

    /// Waits until the predicate holds, and gives what it held for.
    ///
    /// # Errors
    /// When it does not hold within this time; the message shows the jobs and runners.
    pub async fn wait_for(
        &self,
        mut predicate: impl FnMut(&Snapshot) -> bool,
        within: Duration,
    ) -> Result<Snapshot> {
        let deadline = Instant::now() + within;
        loop {
            let changed = self.core.changed();
            tokio::pin!(changed);
            // What changes from here on is noticed, even before the wait.
            changed.as_mut().enable();
            let snapshot = self.core.state().snapshot();
            if predicate(&snapshot) {
                return Ok(snapshot);
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(Error::new(format!(
                    "what was waited for did not happen within {within:?}: {snapshot:?}"
                )));
            }
        }
    }

    /// Makes the next matching requests fail.
    pub fn fault(&self, rule: FaultRule) {
        self.core.faults.add(rule);
    }

    /// Drops all rules of [`fault`](Self::fault).
    pub fn clear_faults(&self) {
        self.core.faults.clear();
    }

    /// The last 10,000 requests and what became of them, oldest first.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.core.exchanges.list()
    }

    /// Stops the server and waits until its tasks have ended.
    pub async fn shutdown(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            // The error says that the task was aborted.
            let _ = task.await;
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Everything that a simulator serves.
pub(crate) fn routes(core: &Shared) -> Router {
    api::routes(core)
        .merge(runner_side::routes(core))
        .merge(control::routes(core))
}

/// Refuses a configuration that makes no sense.
pub(crate) fn check(config: &SimConfig) -> Result<()> {
    if config.poll >= config.silence || config.poll.is_zero() {
        return Err(Error::new(
            "a runner's poll must be longer than nothing and shorter than the silence that makes it offline",
        ));
    }
    if let Some(odd) = config.repos.iter().find(|repo| !is_repo(repo)) {
        return Err(Error::new(format!("`{odd}` is not owner/name")));
    }
    Ok(())
}

/// Queues a job for any caller.
pub(crate) fn queue(core: &Core, mut spec: JobSpec) -> Result<u64> {
    if !is_repo(&spec.repo) {
        return Err(Error::new(format!("`{}` is not owner/name", spec.repo)));
    }
    spec.labels.truncate(100);
    core.change(|state| state.queue_job(spec))
        .ok_or_else(|| Error::new("too many jobs wait already; let some run"))
}

fn is_repo(text: &str) -> bool {
    let plain = |part: &str| {
        let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.chars().all(ok)
    };
    text.split_once('/')
        .is_some_and(|(owner, name)| plain(owner) && plain(name))
}

/// Notices runners that fell silent.
async fn sweep(core: Shared, silence: Duration) {
    let pause = (silence / 20).clamp(Duration::from_millis(5), Duration::from_millis(100));
    loop {
        tokio::time::sleep(pause).await;
        let silent = core.state().has_silent(silence);
        if silent {
            core.change(|state| state.end_silent(silence));
        }
    }
}
