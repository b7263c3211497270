//! Writes down what becomes of the jobs: queued, picked up, done.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use runner_manager_core::Result;
use runner_manager_github::{GitHub, RemoteJob};
use runner_manager_store::{JobRow, JobStatus, Store};
use tokio::time::Instant;

use crate::route::{Route, route};
use crate::scope::ScopeView;

/// How often a running job is asked for while its runner is still busy.
const RUNNING_INTERVAL: Duration = Duration::from_secs(60);
/// How many jobs are asked for in one look, and how many at once.
const PER_LOOK: usize = 64;
const CONCURRENCY: usize = 8;

/// A job that is not completed.
struct Open {
    owner: String,
    repo: String,
    pool: Option<String>,
    /// Its runner, once it has one.
    runner: Option<String>,
    asked: Option<Instant>,
}

pub(crate) struct JobLog {
    store: Store,
    github: GitHub,
    scope: String,
    /// `None` until the open jobs of the store are read.
    open: Option<HashMap<u64, Open>>,
}

impl JobLog {
    pub(crate) fn new(store: Store, github: GitHub, scope: String) -> Self {
        Self {
            store,
            github,
            scope,
            open: None,
        }
    }

    /// Records the queued jobs of a look, and asks for those that are no longer queued.
    pub(crate) async fn follow(&mut self, view: &ScopeView, routes: &[Route]) -> Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.load(routes).await?,
        };
        let outcome = self.update(&mut open, view, routes).await;
        self.open = Some(open);
        outcome
    }

    /// The open jobs of an earlier run, of the repositories of this scope.
    async fn load(&self, routes: &[Route]) -> Result<HashMap<u64, Open>> {
        let mine = |job: &JobRow| {
            let repository = job.repository.to_lowercase();
            routes
                .iter()
                .any(|r| r.scope == self.scope && r.covers(&repository))
        };
        let jobs = self.store.open_jobs().await?;
        let open = jobs.into_iter().filter(mine).filter_map(|job| {
            let (owner, repo) = job.repository.split_once('/')?;
            let open = Open {
                owner: owner.into(),
                repo: repo.into(),
                pool: job.pool,
                runner: job.runner,
                asked: None,
            };
            Some((job.id, open))
        });
        Ok(open.collect())
    }

    async fn update(
        &self,
        open: &mut HashMap<u64, Open>,
        view: &ScopeView,
        routes: &[Route],
    ) -> Result<()> {
        for job in &view.queued {
            let known = open.contains_key(&job.id);
            if !known {
                let repository = format!("{}/{}", job.owner, job.repo);
                let pool = route(routes, &repository, &job.labels);
                let pool = pool.map(str::to_owned);
                self.store.record_job(&row(job, pool.clone())).await?;
                tracing::info!(job = job.id, pool, repository, "job queued");
                let (owner, repo) = (job.owner.clone(), job.repo.clone());
                open.insert(
                    job.id,
                    Open {
                        owner,
                        repo,
                        pool,
                        runner: None,
                        asked: None,
                    },
                );
            }
        }
        self.hear(open).await?;
        let asked: Vec<_> = due(open, view)
            .into_iter()
            .map(|(id, owner, repo)| ask(self.github.clone(), owner, repo, id))
            .collect();
        let answers: Vec<(u64, Option<RemoteJob>)> = futures::stream::iter(asked)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await?;
        for (id, job) in answers {
            self.take(open, id, job).await?;
        }
        Ok(())
    }

    /// Takes what webhooks have told since: what they told need not be asked.
    async fn hear(&self, open: &mut HashMap<u64, Open>) -> Result<()> {
        let known = self.store.open_jobs().await?;
        let mut known: HashMap<u64, JobRow> = known.into_iter().map(|job| (job.id, job)).collect();
        let ids: Vec<u64> = open.keys().copied().collect();
        for id in ids {
            match known.remove(&id) {
                Some(row) if row.runner.is_some() => {
                    if let Some(job) = open.get_mut(&id).filter(|job| job.runner.is_none()) {
                        job.runner = row.runner;
                        job.asked = Some(Instant::now());
                    }
                }
                Some(_) => {}
                // Completed, or beyond the most that the store lists at once.
                None => {
                    let row = self.store.job(id).await?;
                    if row.is_some_and(|row| row.status == JobStatus::Completed) {
                        open.remove(&id);
                    }
                }
            }
        }
        Ok(())
    }

    async fn take(
        &self,
        open: &mut HashMap<u64, Open>,
        id: u64,
        job: Option<RemoteJob>,
    ) -> Result<()> {
        let Some(job) = job else {
            // Its run was deleted; nothing more will be heard of it.
            open.remove(&id);
            return Ok(());
        };
        let Some(known) = open.get_mut(&id) else {
            return Ok(());
        };
        let row = row(&job, known.pool.clone());
        self.store.record_job(&row).await?;
        known.asked = Some(Instant::now());
        if known.runner.is_none() && row.runner.is_some() {
            known.runner.clone_from(&row.runner);
            let runner = row.runner.as_deref().unwrap_or_default();
            tracing::info!(job = id, pool = known.pool, runner, "job picked up");
        }
        if row.status == JobStatus::Completed {
            let conclusion = row.conclusion.as_deref().unwrap_or("unknown");
            tracing::info!(
                job = id,
                pool = known.pool,
                runner = known.runner,
                conclusion,
                "job done"
            );
            open.remove(&id);
        }
        Ok(())
    }
}

async fn ask(
    github: GitHub,
    owner: String,
    repo: String,
    id: u64,
) -> Result<(u64, Option<RemoteJob>)> {
    Ok((id, github.job(&owner, &repo, id).await?))
}

/// The jobs to ask for: those that left the queue, those whose runner is not busy any more, and
/// the others now and then.
fn due(open: &HashMap<u64, Open>, view: &ScopeView) -> Vec<(u64, String, String)> {
    let queued: HashSet<u64> = view.queued.iter().map(|job| job.id).collect();
    let is_due = |job: &Open| match (&job.runner, job.asked) {
        (None, _) | (_, None) => true,
        (Some(runner), Some(asked)) => {
            let busy = view.runners.get(runner).is_some_and(|r| r.busy);
            !busy || asked.elapsed() >= RUNNING_INTERVAL
        }
    };
    let mut due: Vec<(&u64, &Open)> = open
        .iter()
        .filter(|(id, job)| !queued.contains(id) && is_due(job))
        .collect();
    // Those that waited longest first, so that the bound starves none.
    due.sort_by_key(|(id, job)| (job.asked, **id));
    due.truncate(PER_LOOK);
    due.into_iter()
        .map(|(id, job)| (*id, job.owner.clone(), job.repo.clone()))
        .collect()
}

/// A job as the store holds it.
pub(crate) fn row(job: &RemoteJob, pool: Option<String>) -> JobRow {
    let status = match job.status.as_str() {
        "completed" => JobStatus::Completed,
        "in_progress" => JobStatus::InProgress,
        _ => JobStatus::Queued,
    };
    // GitHub shows a start time for jobs that still wait; it means nothing then.
    let started_at = job.started_at.filter(|_| status != JobStatus::Queued);
    JobRow {
        id: job.id,
        name: job.name.clone(),
        repository: format!("{}/{}", job.owner, job.repo),
        labels: job.labels.clone(),
        pool,
        status,
        conclusion: job.conclusion.clone(),
        runner: job.runner_name.clone(),
        queued_at: job.created_at,
        started_at,
        completed_at: job.completed_at,
    }
}
