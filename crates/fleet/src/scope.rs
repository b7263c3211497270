//! Watches one scope on GitHub: its runners and the queued jobs, for all pools at once.

mod heard;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use runner_manager_core::{Error, ErrorKind, GitHubPath, Result, Retry};
use runner_manager_github::{GitHub, JobEvent, JobPoller, RemoteJob, RemoteRunner, Unread};
use runner_manager_store::{JobRow, JobStatus, Store};
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
    /// What the last look could not read, if anything; of that, the rest is as it was last read.
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

/// The most failures that a view names one by one.
const NAMED_FAILURES: usize = 5;
/// The most runners that are asked for one by one in a look, and how many at once.
const ASKED_RUNNERS: usize = 64;
const AT_ONCE: usize = 8;

/// What one look at GitHub found.
struct Looked {
    /// The view, of which the runners are those of the look before where these failed.
    view: ScopeView,
    /// The jobs that the look found in another state than queued.
    begun: HashSet<u64>,
    /// The repositories that were read in full.
    read: BTreeSet<String>,
    /// When the jobs were asked for.
    polled: Instant,
    /// What decides about the next look.
    failed: Option<Error>,
}

impl ScopeWatcher {
    /// Looks again and again, and listens to webhooks meanwhile, until the task is aborted.
    pub(crate) async fn run(mut self) {
        let scope = self.path.api_path();
        let mut log = JobLog::new(self.store.clone(), self.github.clone(), scope.clone());
        let (_, unheard) = mpsc::channel(1);
        let mut heard = Heard::new(std::mem::replace(&mut self.events, unheard));
        let mut poller = JobPoller::new(self.github.clone());
        let mut failing = BTreeSet::new();
        let mut failures = 0_u32;
        loop {
            let routes = self.routes.borrow().clone();
            self.remember(&mut heard, &routes).await;
            let looked =
                heard.meanwhile(&self.views, self.look(&mut poller, &mut failing, &routes));
            let failed = match looked.await {
                Ok(mut looked) => {
                    self.ask(&mut heard, &looked).await;
                    heard.complete(&mut looked.view, &looked.begun, looked.polled);
                    self.views.send_replace(looked.view);
                    let view = self.views.get();
                    let followed = heard.meanwhile(&self.views, log.follow(&view, &routes));
                    if let Err(error) = followed.await {
                        tracing::warn!(scope, %error, "cannot follow the jobs");
                    }
                    looked.failed
                }
                Err(error) => {
                    tracing::warn!(scope, %error, failures, "cannot look at GitHub");
                    self.views
                        .send_modify(|view| view.error = Some(error.to_string()));
                    Some(error)
                }
            };
            failures = failed.as_ref().map_or(0, |_| failures.saturating_add(1));
            let pause = failed.map_or(self.poll_interval, |error| {
                pause_after(&error, failures, self.poll_interval)
            });
            let pause = pause.max(self.github.poll_pause(&self.path));
            heard
                .meanwhile(&self.views, tokio::time::sleep(pause))
                .await;
        }
    }

    /// The jobs that were queued when the manager last stopped, once the store can be read.
    async fn remember(&self, heard: &mut Heard, routes: &[Route]) {
        if !heard.is_new() {
            return;
        }
        let scope = self.path.api_path();
        match self.store.open_jobs().await {
            Ok(open) => {
                let of_pool = |pool: &Option<String>| {
                    pool.is_none()
                        || routes
                            .iter()
                            .any(|r| r.counts && Some(&r.pool) == pool.as_ref())
                };
                let mine = |job: &JobRow| {
                    let mut routes = routes.iter().filter(|route| route.scope == scope);
                    job.status == JobStatus::Queued
                        && of_pool(&job.pool)
                        && routes.any(|route| route.covers(&job.repository))
                };
                heard.remember(open.into_iter().filter(mine).filter_map(stored));
            }
            Err(error) => tracing::warn!(scope, %error, "cannot read which jobs were queued"),
        }
    }

    /// Runners first, then jobs: a job that is picked up in between counts as neither queued
    /// nor picked up, which costs one look at most. The other way round it would be counted as
    /// queued while its runner is busy, and a runner too many would be launched.
    ///
    /// What fails leaves what was last known of it, and is named in the view.
    async fn look(
        &self,
        poller: &mut JobPoller,
        failing: &mut BTreeSet<String>,
        routes: &[Route],
    ) -> Result<Looked> {
        let began = Instant::now();
        let before = self.views.get();
        let mut named = Vec::new();
        let (mut view, mut failed) = match self.runners().await {
            Ok((runners, gap)) => {
                named.extend(gap.map(|gap| format!("runners: {gap}")));
                let view = ScopeView {
                    number: before.number + 1,
                    began: Some(began),
                    runners,
                    ..ScopeView::default()
                };
                (view, None)
            }
            // Without the runners nothing can be decided, and where nothing answers nothing more
            // is asked.
            Err(error) if before.began.is_none() || !is_of_one_list(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(scope = %self.path, %error, "cannot list the runners");
                named.push(format!("runners: {error}"));
                ((*before).clone(), Some(error))
            }
        };
        let configured = self.configured(routes);
        let wanted: BTreeSet<String> = &configured | &self.learned(routes).await?;
        let polled = Instant::now();
        let found = poller.poll(&split(&wanted)).await;
        let read = wanted
            .into_iter()
            .filter(|repository| !found.failed.contains_key(repository))
            .collect();
        let before = std::mem::take(failing);
        for (repository, error) in found.failed {
            // Once, and not with every look.
            if !before.contains(&repository) {
                tracing::warn!(repository, %error, "cannot read the jobs of a repository");
            }
            let is_hidden = matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied
            );
            // What nobody configured need not be readable: webhooks tell its jobs.
            if !is_hidden || configured.contains(&repository) {
                named.push(format!("{repository}: {error}"));
            }
            failing.insert(repository);
            if error.kind() == ErrorKind::RateLimited {
                failed = failed.or(Some(error));
            }
        }
        if found.unread_runs > 0 {
            tracing::info!(
                scope = %self.path,
                runs = found.unread_runs,
                "more unfinished runs than GitHub's calls of a minute; the next looks read them"
            );
        }
        view.queued = found.queued;
        view.error = named_failures(&named);
        if view.began == Some(began) {
            view.ended = Some(Instant::now());
        }
        Ok(Looked {
            view,
            begun: found.begun,
            read,
            polled,
            failed,
        })
    }

    /// The runners by name, and why there may be more. One that was there before and is missing in
    /// a list that may not be whole is asked for: only an answer about itself, or a whole list, says
    /// that it is gone.
    async fn runners(&self) -> Result<(BTreeMap<String, RemoteRunner>, Option<Error>)> {
        let observed = self.github.observe_runners(&self.path).await?;
        let listed = observed.listing.runners.into_iter();
        let mut runners: BTreeMap<String, RemoteRunner> =
            listed.map(|r| (r.name.clone(), r)).collect();
        let (unread, gap) = (observed.listing.unread, observed.gap);
        if unread.is_empty() && gap.is_none() {
            return Ok((runners, None));
        }
        let nameless = |odd: &Unread| odd.id.is_none() && odd.name.is_none();
        let any = gap.is_some() || unread.iter().any(nameless);
        let is_meant = |known: &RemoteRunner| {
            let is = |odd: &Unread| {
                odd.id == Some(known.id) || odd.name.as_deref() == Some(known.name.as_str())
            };
            any || unread.iter().any(is)
        };
        let before = self.views.get();
        let missing = before.runners.values();
        let missing = missing.filter(|known| !runners.contains_key(&known.name) && is_meant(known));
        let missing: Vec<RemoteRunner> = missing.cloned().collect();
        let asked: Vec<_> = missing
            .iter()
            .take(ASKED_RUNNERS)
            .map(|known| runner(self.github.clone(), self.path.clone(), known.id))
            .collect();
        let answers: HashMap<u64, Result<Option<RemoteRunner>>> = stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for known in missing {
            match answers.get(&known.id) {
                Some(Ok(None)) => {}
                Some(Ok(Some(now))) => {
                    runners.insert(now.name.clone(), now.clone());
                }
                Some(Err(_)) | None => {
                    runners.insert(known.name.clone(), known);
                }
            }
        }
        // One of which nothing is known but that it is there may have a job.
        for odd in unread {
            if let (Some(id), Some(name)) = (odd.id, odd.name) {
                runners.entry(name.clone()).or_insert(RemoteRunner {
                    id,
                    name,
                    online: true,
                    busy: true,
                    labels: Vec::new(),
                    ephemeral: None,
                });
            }
        }
        Ok((runners, gap))
    }

    /// Asks for the jobs that webhooks told and the lists do not show.
    async fn ask(&self, heard: &mut Heard, looked: &Looked) {
        let due = heard.due(&looked.view);
        let asked: Vec<_> = due
            .into_iter()
            .map(|job| job_state(self.github.clone(), job))
            .collect();
        if asked.is_empty() {
            return;
        }
        let answers = stream::iter(asked).buffer_unordered(AT_ONCE).collect();
        let answers: Vec<(RemoteJob, Result<Option<RemoteJob>>)> =
            heard.meanwhile(&self.views, answers).await;
        for (job, answer) in answers {
            let repository = format!("{}/{}", job.owner, job.repo).to_lowercase();
            let is_over = match answer {
                Ok(Some(now)) => now.status != "queued",
                // It is gone only where others can be seen.
                Ok(None) => looked.read.contains(&repository),
                Err(error) => {
                    tracing::debug!(job = job.id, repository, %error, "cannot ask for a job");
                    false
                }
            };
            heard.answered(job.id, is_over);
        }
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
}

/// Whether a failed list says nothing about other lists: GitHub answers, and takes the credential.
fn is_of_one_list(error: &Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::RateLimited | ErrorKind::Unauthenticated | ErrorKind::TimedOut
    )
}

/// The text for some failures, the first few of them in full.
fn named_failures(all: &[String]) -> Option<String> {
    let shown = all.iter().take(NAMED_FAILURES).cloned();
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if all.len() > NAMED_FAILURES {
        text += &format!("; and {} more", all.len() - NAMED_FAILURES);
    }
    Some(text).filter(|text| !text.is_empty())
}

async fn runner(github: GitHub, path: GitHubPath, id: u64) -> (u64, Result<Option<RemoteRunner>>) {
    (id, github.runner(&path, id).await)
}

async fn job_state(github: GitHub, job: RemoteJob) -> (RemoteJob, Result<Option<RemoteJob>>) {
    let answer = github.job(&job.owner, &job.repo, job.id).await;
    (job, answer)
}

/// A job of the store as GitHub tells of jobs.
fn stored(row: JobRow) -> Option<RemoteJob> {
    let (owner, repo) = row.repository.split_once('/')?;
    Some(RemoteJob {
        id: row.id,
        run_id: 0,
        name: row.name,
        owner: owner.to_owned(),
        repo: repo.to_owned(),
        labels: row.labels,
        status: "queued".to_owned(),
        conclusion: None,
        runner_name: None,
        created_at: row.queued_at,
        started_at: None,
        completed_at: None,
    })
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

    #[test]
    fn a_few_failures_are_named_and_the_others_counted() {
        let named = |count: usize| {
            let all: Vec<String> = (0..count).map(|n| format!("o/{n}: no")).collect();
            named_failures(&all)
        };
        assert_eq!(named(0), None);
        assert_eq!(named(2).unwrap(), "o/0: no; o/1: no");
        assert!(named(7).unwrap().ends_with("o/4: no; and 2 more"));
    }
}
