//! Events: what became of runners, as JSON lines, in the form that existing dashboards read.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use runner_manager_core::{
    GitHubPath, JobStatus, PreJobMetrics, Result, RunnerMetrics, RunnerName, StatusInfo,
};
use runner_manager_github::GitHub;
use runner_manager_store::{JobRow, Recorded, Store};
use serde::Serialize;

use crate::job_log;

/// UNIX seconds.
fn seconds(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

/// The runner was ready to register; `duration` counts from the instance's creation.
#[derive(Debug, Serialize)]
struct RunnerInstalled<'a> {
    timestamp: f64,
    event: &'static str,
    flavor: &'a str,
    duration: f64,
}

/// A job has begun; `idle` is how long the runner had waited for it.
#[derive(Debug, Serialize)]
struct RunnerStart<'a> {
    timestamp: f64,
    event: &'static str,
    flavor: &'a str,
    workflow: &'a str,
    repo: &'a str,
    github_event: &'a str,
    idle: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_duration: Option<f64>,
}

/// A job has ended.
#[derive(Debug, Serialize)]
struct RunnerStop<'a> {
    timestamp: f64,
    event: &'static str,
    flavor: &'a str,
    workflow: &'a str,
    repo: &'a str,
    github_event: &'a str,
    status: JobStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_info: Option<StatusInfo>,
    job_duration: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_conclusion: Option<&'a str>,
}

/// What a pool holds, once a cleanup; `duration` is that of the cleanup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Reconciliation {
    timestamp: f64,
    event: &'static str,
    flavor: String,
    pub(crate) crashed_runners: usize,
    pub(crate) idle_runners: usize,
    pub(crate) active_runners: usize,
    pub(crate) expected_runners: usize,
    duration: f64,
}

impl Reconciliation {
    pub(crate) fn new(at: Timestamp, flavor: &str) -> Self {
        Self {
            timestamp: seconds(at),
            event: "reconciliation",
            flavor: flavor.to_owned(),
            crashed_runners: 0,
            idle_runners: 0,
            active_runners: 0,
            expected_runners: 0,
            duration: 0.0,
        }
    }

    pub(crate) fn took(&mut self, duration: Duration) {
        self.duration = duration.as_secs_f64();
    }
}

/// The lines that a runner's metrics give. Clocks of instances differ: a span never is
/// negative.
fn of_runner(
    flavor: &str,
    metrics: &RunnerMetrics,
    job: Option<&JobRow>,
) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut add = |kind, line: serde_json::Result<String>| match line {
        Ok(line) => lines.push((kind, line)),
        Err(error) => tracing::error!(%error, kind, "cannot write an event as JSON"),
    };
    if let Some(at) = metrics.installed_at {
        let (timestamp, begin) = (seconds(at), seconds(metrics.installation_start));
        let event = RunnerInstalled {
            timestamp,
            event: "runner_installed",
            flavor,
            duration: (timestamp - begin).max(0.0),
        };
        add(event.event, serde_json::to_string(&event));
    }
    let Some(pre) = &metrics.pre_job else {
        return lines;
    };
    let installed = metrics.installed_at.map_or(pre.timestamp, seconds);
    let queued = job.and_then(|job| Some((job.started_at?, job.queued_at)));
    let event = RunnerStart {
        timestamp: pre.timestamp,
        event: "runner_start",
        flavor,
        workflow: &pre.workflow,
        repo: &pre.repository,
        github_event: &pre.event,
        idle: (pre.timestamp - installed).max(0.0),
        queue_duration: queued.map(|(to, from)| (seconds(to) - seconds(from)).max(0.0)),
    };
    add(event.event, serde_json::to_string(&event));
    if let Some(post) = &metrics.post_job {
        let event = RunnerStop {
            timestamp: post.timestamp,
            event: "runner_stop",
            flavor,
            workflow: &pre.workflow,
            repo: &pre.repository,
            github_event: &pre.event,
            status: post.status,
            status_info: post.status_info,
            job_duration: (post.timestamp - pre.timestamp).max(0.0),
            job_conclusion: job.and_then(|job| job.conclusion.as_deref()),
        };
        add(event.event, serde_json::to_string(&event));
    }
    lines
}

/// Writes the events of one pool's runners.
pub(crate) struct Events<'a> {
    pub(crate) store: &'a Store,
    pub(crate) github: &'a GitHub,
    pub(crate) file: Option<&'a PathBuf>,
    pub(crate) pool: &'a str,
    pub(crate) scope: &'a GitHubPath,
    /// Those whose jobs are watched; none stands for all of the scope.
    pub(crate) repositories: &'a [(String, String)],
    pub(crate) now: Timestamp,
}

impl Events<'_> {
    /// Stores what a runner left, and writes its events. Those that it had before are not
    /// written again. A failure is told in the log and holds up nothing.
    pub(crate) async fn of_metrics(&self, metrics: &RunnerMetrics) -> Result<()> {
        self.store.record_metrics(metrics).await?;
        for aside in &metrics.set_aside {
            tracing::warn!(runner = %metrics.runner_name, file = aside.file, reason = aside.reason, "a metrics file was set aside");
        }
        let job = self.job(metrics).await.unwrap_or_else(|error| {
            tracing::warn!(runner = %metrics.runner_name, %error, "the events of a runner lack its job");
            None
        });
        for (kind, line) in of_runner(self.pool, metrics, job.as_ref()) {
            self.write(Some(&metrics.runner_name), kind, &line).await;
        }
        Ok(())
    }

    pub(crate) async fn reconciliation(&self, event: &Reconciliation) {
        match serde_json::to_string(event) {
            Ok(line) => self.write(None, event.event, &line).await,
            Err(error) => tracing::error!(%error, "cannot write an event as JSON"),
        }
    }

    /// The job of a runner. GitHub is asked for its end where it has not told it yet.
    async fn job(&self, metrics: &RunnerMetrics) -> Result<Option<JobRow>> {
        let Some(pre_job) = &metrics.pre_job else {
            return Ok(None);
        };
        let Some(id) = self.store.job_of(&metrics.runner_name).await? else {
            return self.unseen_job(pre_job, &metrics.runner_name).await;
        };
        let known = self.store.job(id).await?;
        let Some(known) = known.filter(|job| job.conclusion.is_none()) else {
            return self.store.job(id).await;
        };
        if let Some((owner, repo)) = known.repository.split_once('/')
            && let Some(remote) = self.github.job(owner, repo, id).await?
        {
            let row = job_log::row(&remote, known.pool.clone());
            self.store.record_job(&row).await?;
        }
        self.store.job(id).await
    }

    /// The job of a runner that took it before it was seen in the queue. GitHub's word counts: the
    /// runner says which run to look into, as far as the pool may have jobs of it.
    async fn unseen_job(
        &self,
        pre_job: &PreJobMetrics,
        runner: &RunnerName,
    ) -> Result<Option<JobRow>> {
        let repository = GitHubPath::parse(&pre_job.repository, None);
        let Ok(GitHubPath::Repository { owner, repo }) = repository else {
            return Ok(None);
        };
        let run = pre_job.workflow_run_id.parse().ok();
        let watched = has_jobs_of(self.scope, self.repositories, &owner, &repo);
        let Some(run) = run.filter(|_| watched) else {
            return Ok(None);
        };
        let name = runner.to_string();
        let found = self.github.job_of_runner(&owner, &repo, run, &name).await?;
        let Some(remote) = found else { return Ok(None) };
        let row = job_log::row(&remote, Some(self.pool.to_owned()));
        // Nobody follows a job that was not seen in the queue: one that is not over would stay so.
        if row.status == runner_manager_store::JobStatus::Completed {
            self.store.record_job(&row).await?;
        }
        Ok(Some(row))
    }

    async fn write(&self, runner: Option<&RunnerName>, kind: &'static str, line: &str) {
        match self.store.record_event(runner, kind, self.now, line).await {
            Ok(Recorded::New) => {}
            Ok(Recorded::Before) => return,
            Err(error) => tracing::error!(%error, kind, "cannot store an event"),
        }
        let Some(file) = self.file.cloned() else {
            return;
        };
        let line = format!("{line}\n");
        let written = tokio::task::spawn_blocking(move || append(&file, &line)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, kind, "cannot write to the file of events; the store has it");
        }
    }
}

/// Whether a pool may have jobs of a repository: it is one of those that it names, or of its scope
/// where it names none.
fn has_jobs_of(
    scope: &GitHubPath,
    repositories: &[(String, String)],
    owner: &str,
    repo: &str,
) -> bool {
    let mut named = repositories.iter();
    (repositories.is_empty() && scope.holds(owner, repo))
        || named.any(|(o, r)| o.eq_ignore_ascii_case(owner) && r.eq_ignore_ascii_case(repo))
}

/// One line in one write, so that lines of others never come between.
fn append(file: &Path, line: &str) -> std::io::Result<()> {
    let mut open = std::fs::OpenOptions::new();
    let mut file = open.append(true).create(true).mode(0o640).open(file)?;
    file.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests;
