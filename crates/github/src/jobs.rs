//! Workflow jobs, polled.

use runner_manager_core::{Error, ErrorKind, GitHubPath, Result};

use crate::call::{Caching, Call};
use crate::model::RemoteJob;
use crate::pages::{PER_PAGE, Pages};
use crate::poll::JobPoller;
use crate::urls::{NEEDS_JOBS, join};
use crate::wire::Page;
use crate::{GitHub, wire};

/// How many pages of one run's jobs are read for the one of a runner: the runner names the run.
const RUN_PAGES: u64 = 2;

impl GitHub {
    /// The jobs that wait for a runner in these repositories (owner and name), oldest first: all
    /// of them, whatever they cost. Who asks again and again uses a [`JobPoller`].
    ///
    /// Five calls a repository and one for each unfinished run.
    ///
    /// # Errors
    /// When any call fails: the list is never partial.
    pub async fn queued_jobs(&self, repos: &[(String, String)]) -> Result<Vec<RemoteJob>> {
        let mut poller = JobPoller::new(self.clone());
        let found = poller.poll_within(repos, Some(usize::MAX)).await;
        match found.failed.into_values().next() {
            Some(error) => Err(error),
            None => Ok(found.queued),
        }
    }

    /// One job, or none when it does not exist or cannot be seen.
    ///
    /// # Errors
    /// When GitHub cannot be asked or refuses.
    pub async fn job(&self, owner: &str, repo: &str, id: u64) -> Result<Option<RemoteJob>> {
        let id = id.to_string();
        let segments = ["repos", owner, repo, "actions", "jobs", &id];
        let url = join(&self.0.api, &segments, &[]);
        let call = Call::get_cached(url, NEEDS_JOBS);
        match self.send(&repository(owner, repo), &call).await {
            Ok(answer) => match answer.json::<wire::Job>()?.of(owner, repo, None) {
                Ok(job) => Ok(Some(job)),
                Err(_) => Err(Error::new(
                    ErrorKind::BadAnswer,
                    "GitHub gave a job without its id, labels or status",
                )
                .with_context("job", id)),
            },
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The job of a workflow run that a runner took, in any of the run's attempts; or none, when it
    /// is not among the first 200. One call, or two.
    ///
    /// # Errors
    /// When GitHub cannot be asked or refuses.
    pub async fn job_of_runner(
        &self,
        owner: &str,
        repo: &str,
        run: u64,
        runner: &str,
    ) -> Result<Option<RemoteJob>> {
        let path = repository(owner, repo);
        let pages = self.jobs_of_run(&path, run, "all", Caching::None);
        for number in 1..=RUN_PAGES {
            let page = match self.page::<wire::Jobs>(&path, &pages, number).await {
                // The run was deleted, or never was.
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                page => page?,
            };
            let items = page.items();
            let is_last = u64::try_from(items.len()).unwrap_or(u64::MAX) < PER_PAGE;
            let found = items
                .into_iter()
                .flatten()
                .find(|job| job.runner_name.as_deref() == Some(runner))
                .map(|job| RemoteJob {
                    owner: owner.to_owned(),
                    repo: repo.to_owned(),
                    ..job
                });
            if found.is_some() || is_last {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The jobs of a run's attempts (`latest` or `all`).
    pub(crate) fn jobs_of_run(
        &self,
        path: &GitHubPath,
        run: u64,
        filter: &str,
        caching: Caching,
    ) -> Pages {
        let url = format!("{}/actions/runs/{run}/jobs", path.api_path());
        let segments: Vec<&str> = url.split('/').skip(1).collect();
        Pages {
            url: join(&self.0.api, &segments, &[("filter", filter)]),
            caching,
            needs: NEEDS_JOBS,
            shown: 0,
            size: PER_PAGE,
        }
    }
}

pub(crate) fn repository(owner: &str, repo: &str) -> GitHubPath {
    GitHubPath::Repository {
        owner: owner.to_owned(),
        repo: repo.to_owned(),
    }
}
