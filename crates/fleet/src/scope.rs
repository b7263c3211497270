//! Watches one scope on GitHub: its runners and the queued jobs, for all pools at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_manager_core::{Error, GitHubPath, Result, Retry};
use runner_manager_github::{GitHub, RemoteJob, RemoteRunner};
use runner_manager_store::Store;
use tokio::sync::watch;

use crate::job_log::JobLog;
use crate::route::Route;

/// What GitHub showed of a scope.
#[derive(Debug, Clone, Default)]
pub(crate) struct ScopeView {
    /// Grows by one with every successful look.
    pub(crate) number: u64,
    /// When the look began: what happened later may not be in it. `None` before the first.
    pub(crate) began: Option<Instant>,
    /// Registered runners by name.
    pub(crate) runners: HashMap<String, RemoteRunner>,
    /// Jobs that wait for a runner.
    pub(crate) queued: Vec<RemoteJob>,
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
    pub(crate) views: watch::Sender<Arc<ScopeView>>,
}

/// The longest pause after failures in a row.
const MAX_BACKOFF: Duration = Duration::from_secs(300);

impl ScopeWatcher {
    /// Looks again and again, until the task is aborted.
    pub(crate) async fn run(self) {
        let scope = self.path.api_path();
        let mut log = JobLog::new(self.store.clone(), self.github.clone(), scope.clone());
        let mut failures = 0_u32;
        loop {
            let routes = self.routes.borrow().clone();
            let pause = match self.look(&routes).await {
                Ok(view) => {
                    failures = 0;
                    let view = Arc::new(view);
                    self.views.send_replace(view.clone());
                    if let Err(error) = log.follow(&view, &routes).await {
                        tracing::warn!(scope, %error, "cannot follow the jobs");
                    }
                    self.poll_interval
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(scope, %error, failures, "cannot look at GitHub");
                    let mut view = ScopeView::clone(&self.views.borrow());
                    view.error = Some(error.to_string());
                    self.views.send_replace(Arc::new(view));
                    pause_after(&error, failures, self.poll_interval)
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Runners first, then jobs: a job that is picked up in between counts as neither queued
    /// nor picked up, which costs one look at most. The other way round it would be counted as
    /// queued while its runner is busy, and a runner too many would be launched.
    async fn look(&self, routes: &[Route]) -> Result<ScopeView> {
        let began = Instant::now();
        let runners = self.github.runners(&self.path).await?.runners;
        let scope = self.path.api_path();
        let mut repositories: Vec<(String, String)> = routes
            .iter()
            .filter(|route| route.scope == scope)
            .flat_map(|route| &route.repositories)
            .filter_map(|r| r.split_once('/'))
            .map(|(owner, repo)| (owner.to_owned(), repo.to_owned()))
            .collect();
        repositories.sort();
        repositories.dedup();
        let queued = self.github.queued_jobs(&repositories).await?;
        Ok(ScopeView {
            number: self.views.borrow().number + 1,
            began: Some(began),
            runners: runners.into_iter().map(|r| (r.name.clone(), r)).collect(),
            queued,
            error: None,
        })
    }
}

/// Twice as long with every failure, and never sooner than GitHub asks for.
pub(crate) fn pause_after(error: &Error, failures: u32, shortest: Duration) -> Duration {
    let doubled = shortest.saturating_mul(2_u32.saturating_pow(failures.min(16)));
    let pause = doubled.min(MAX_BACKOFF.max(shortest));
    match error.retry() {
        Retry::After(asked) => pause.max(asked.min(Duration::from_secs(3600))),
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
        let error = || Error::new(ErrorKind::Unreachable, "no");
        assert_eq!(pause_after(&error(), 1, second), 2 * second);
        assert_eq!(pause_after(&error(), 3, second), 8 * second);
        assert_eq!(pause_after(&error(), 99, second), MAX_BACKOFF);
        let asked = error().with_retry(Retry::After(600 * second));
        assert_eq!(pause_after(&asked, 1, second), 600 * second);
    }
}
