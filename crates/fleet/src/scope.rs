//! Watches one scope on GitHub: its runners and the queued jobs, for all pools at once.

mod heard;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{Error, ErrorKind, GitHubPath, Result, Retry};
use runner_manager_github::{GitHub, JobEvent, RemoteJob, RemoteRunner};
use runner_manager_store::{JobStatus, Store};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::board::Board;
use crate::job_log::JobLog;
use crate::route::Route;
use heard::Heard;

/// What GitHub showed of a scope.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScopeView {
    /// Grows by one with every successful look.
    pub(crate) number: u64,
    /// When the look began: what happened later may not be in it. `None` before the first.
    pub(crate) began: Option<Instant>,
    /// When the look ended. `None` before the first.
    pub(crate) ended: Option<Instant>,
    /// Registered runners by name.
    pub(crate) runners: BTreeMap<String, RemoteRunner>,
    /// Jobs that wait for a runner.
    pub(crate) queued: Vec<RemoteJob>,
    /// Runners whose job ended since the look, as webhooks told.
    pub(crate) finished: HashSet<String>,
    /// Why the last look failed, if it did; the rest is then of the look before.
    pub(crate) error: Option<String>,
}

/// The task that watches one scope.
pub(crate) struct ScopeWatcher {
    pub(crate) path: GitHubPath,
    pub(crate) github: GitHub,
    pub(crate) store: Store,
    pub(crate) poll_interval: Duration,
    /// All pools of the fleet; a change takes effect with the next look.
    pub(crate) routes: watch::Receiver<Arc<Vec<Route>>>,
    pub(crate) views: Board<ScopeView>,
    /// What webhooks tell.
    pub(crate) events: mpsc::Receiver<JobEvent>,
}

/// The longest pause after failures in a row.
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// The longest where the other side was not reached: to try costs it nothing, and whoever comes back
/// is to be noticed soon.
const MAX_UNREACHED: Duration = Duration::from_secs(30);
/// The longest pause that the other side may ask for.
const MAX_ASKED: Duration = Duration::from_secs(3_600);

impl ScopeWatcher {
    /// Looks again and again, and listens to webhooks meanwhile, until the task is aborted.
    pub(crate) async fn run(mut self) {
        let scope = self.path.api_path();
        let mut log = JobLog::new(self.store.clone(), self.github.clone(), scope.clone());
        let (_, unheard) = mpsc::channel(1);
        let mut heard = Heard::new(std::mem::replace(&mut self.events, unheard));
        let mut failures = 0_u32;
        loop {
            let routes = self.routes.borrow().clone();
            let looked = heard.meanwhile(&self.views, self.look(&routes)).await;
            let pause = match looked {
                Ok(mut view) => {
                    failures = 0;
                    heard.complete(&mut view);
                    self.views.send_replace(view);
                    let view = self.views.get();
                    let followed = heard.meanwhile(&self.views, log.follow(&view, &routes));
                    if let Err(error) = followed.await {
                        tracing::warn!(scope, %error, "cannot follow the jobs");
                    }
                    self.poll_interval
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(scope, %error, failures, "cannot look at GitHub");
                    self.views
                        .send_modify(|view| view.error = Some(error.to_string()));
                    pause_after(&error, failures, self.poll_interval)
                }
            };
            heard
                .meanwhile(&self.views, tokio::time::sleep(pause))
                .await;
        }
    }

    /// Runners first, then jobs: a job that is picked up in between counts as neither queued
    /// nor picked up, which costs one look at most. The other way round it would be counted as
    /// queued while its runner is busy, and a runner too many would be launched.
    async fn look(&self, routes: &[Route]) -> Result<ScopeView> {
        let began = Instant::now();
        let runners = self.github.runners(&self.path).await?.runners;
        let configured = self.configured(routes);
        let mut queued = self.github.queued_jobs(&split(&configured)).await?;
        let learned = self.learned(routes).await?;
        for repository in learned.difference(&configured) {
            queued.extend(self.queued_elsewhere(repository).await?);
        }
        Ok(ScopeView {
            number: self.views.get().number + 1,
            began: Some(began),
            ended: Some(Instant::now()),
            runners: runners.into_iter().map(|r| (r.name.clone(), r)).collect(),
            queued,
            finished: HashSet::new(),
            error: None,
        })
    }

    fn configured(&self, routes: &[Route]) -> BTreeSet<String> {
        let scope = self.path.api_path();
        let mine = routes.iter().filter(|route| route.scope == scope);
        mine.flat_map(|route| route.repositories.iter().cloned())
            .collect()
    }

    /// The repositories with a job that waits, as webhooks told: they are asked about until
    /// nothing waits, so that a lost webhook costs time only.
    async fn learned(&self, routes: &[Route]) -> Result<BTreeSet<String>> {
        let scope = self.path.api_path();
        let waiting: Vec<String> = if self.views.get().began.is_some() {
            let view = self.views.get();
            let name = |job: &RemoteJob| format!("{}/{}", job.owner, job.repo);
            view.queued.iter().map(name).collect()
        } else {
            let open = self.store.open_jobs().await?;
            let waiting = open
                .into_iter()
                .filter(|job| job.status == JobStatus::Queued);
            waiting.map(|job| job.repository).collect()
        };
        let mine = |name: &String| {
            let mut routes = routes.iter().filter(|route| route.scope == scope);
            routes.any(|route| route.covers(name))
        };
        let lower = waiting.into_iter().map(|name| name.to_lowercase());
        Ok(lower.filter(mine).collect())
    }

    /// The queued jobs of a repository that no configuration names. One that is gone or closed
    /// has none.
    async fn queued_elsewhere(&self, repository: &str) -> Result<Vec<RemoteJob>> {
        let one = BTreeSet::from([repository.to_owned()]);
        match self.github.queued_jobs(&split(&one)).await {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::PermissionDenied
                ) =>
            {
                tracing::warn!(repository, %error, "a job waits there, and GitHub does not show it");
                Ok(Vec::new())
            }
            answer => answer,
        }
    }
}

fn split(repositories: &BTreeSet<String>) -> Vec<(String, String)> {
    let split = |name: &String| {
        let (owner, repo) = name.split_once('/')?;
        Some((owner.to_owned(), repo.to_owned()))
    };
    repositories.iter().filter_map(split).collect()
}

/// Twice as long with every failure, and never sooner than GitHub asks for.
pub(crate) fn pause_after(error: &Error, failures: u32, shortest: Duration) -> Duration {
    let doubled = shortest.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    let longest = match error.kind() {
        ErrorKind::Unreachable | ErrorKind::TimedOut => MAX_UNREACHED,
        _ => MAX_BACKOFF,
    };
    let pause = doubled.min(longest.max(shortest));
    match error.retry() {
        Retry::After(asked) => pause.max(asked.min(MAX_ASKED)),
        Retry::Never | Retry::Exhausted { .. } => pause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_manager_core::ErrorKind;

    #[test]
    fn pauses_grow_and_obey_github() {
        let second = Duration::from_secs(1);
        let error = || Error::new(ErrorKind::NoCapacity, "no");
        assert_eq!(pause_after(&error(), 1, second), 2 * second);
        assert_eq!(pause_after(&error(), 3, second), 8 * second);
        assert_eq!(pause_after(&error(), 99, second), MAX_BACKOFF);
        let away = Error::new(ErrorKind::Unreachable, "no");
        assert_eq!(pause_after(&away, 99, second), MAX_UNREACHED);
        let asked = error().with_retry(Retry::After(600 * second));
        assert_eq!(pause_after(&asked, 1, second), 600 * second);
        let absurd = error().with_retry(Retry::After(Duration::MAX));
        assert_eq!(pause_after(&absurd, 1, second), MAX_ASKED);
    }
}
