//! Workflow jobs, polled.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use runner_manager_core::{ErrorKind, GitHubPath, Result};

use crate::call::{Caching, Call};
use crate::model::RemoteJob;
use crate::pages::{PER_PAGE, Pages};
use crate::urls::{NEEDS_JOBS, join};
use crate::wire::Page;
use crate::{GitHub, wire};

/// How many repositories, and then runs, are asked about at once.
const AT_ONCE: usize = 8;
/// GitHub shows no more runs than this when they are filtered.
const RUNS_SHOWN: u64 = 1_000;

/// How many pages of one run's jobs are read for the one of a runner: the runner names the run.
const RUN_PAGES: u64 = 2;

impl GitHub {
    /// The jobs that wait for a runner in these repositories (owner and name), oldest first.
    ///
    /// Two calls a repository and one for each unfinished run; what did not change costs none
    /// of the rate limit. Of more than 1,000 runs in one state GitHub shows 1,000.
    ///
    /// # Errors
    /// When any call fails: the list is never partial.
    pub async fn queued_jobs(&self, repos: &[(String, String)]) -> Result<Vec<RemoteJob>> {
        let repos: BTreeSet<&(String, String)> = repos.iter().collect();
        // Collected first: a future that holds the closures could not be spawned.
        let asked: Vec<_> = repos
            .into_iter()
            .map(|(owner, repo)| self.unfinished_runs(owner, repo))
            .collect();
        let of_repos: Vec<Vec<(GitHubPath, u64)>> =
            stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let asked: Vec<_> = of_repos
            .into_iter()
            .flatten()
            .map(|(path, run)| self.queued_in_run(path, run))
            .collect();
        let of_runs: Vec<Vec<RemoteJob>> =
            stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        let mut jobs: Vec<RemoteJob> = of_runs.into_iter().flatten().collect();
        jobs.sort_by_key(|job| (job.created_at, job.id));
        Ok(jobs)
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
            Ok(answer) => Ok(Some(answer.json::<wire::Job>()?.of(owner, repo))),
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
            let total = page.total();
            let mut jobs = page.items().into_iter().map(|job| job.of(owner, repo));
            let found = jobs.find(|job| job.runner_name.as_deref() == Some(runner));
            if found.is_some() || total <= number * PER_PAGE {
                return Ok(found);
            }
        }
        Ok(None)
    }

    async fn unfinished_runs(&self, owner: &str, repo: &str) -> Result<Vec<(GitHubPath, u64)>> {
        let path = repository(owner, repo);
        // A run that starts between the two calls is seen by the second.
        let mut ids = BTreeSet::new();
        for status in ["queued", "in_progress"] {
            let segments = ["repos", owner, repo, "actions", "runs"];
            let pages = Pages {
                url: join(&self.0.api, &segments, &[("status", status)]),
                caching: Caching::ByEtag,
                needs: NEEDS_JOBS,
                shown: RUNS_SHOWN,
            };
            let runs = self.all::<wire::Runs>(&path, &pages).await?;
            ids.extend(runs.into_iter().map(|run| run.id));
        }
        Ok(ids.into_iter().map(|id| (path.clone(), id)).collect())
    }

    async fn queued_in_run(&self, path: GitHubPath, run: u64) -> Result<Vec<RemoteJob>> {
        let GitHubPath::Repository { owner, repo } = &path else {
            return Ok(Vec::new());
        };
        let pages = self.jobs_of_run(&path, run, "latest", Caching::ByEtag);
        let jobs = match self.all::<wire::Jobs>(&path, &pages).await {
            // The run was deleted since it was listed.
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            jobs => jobs?,
        };
        let queued = jobs.into_iter().filter(|job| job.status == "queued");
        Ok(queued.map(|job| job.of(owner, repo)).collect())
    }

    /// The jobs of a run's attempts (`latest` or `all`).
    fn jobs_of_run(&self, path: &GitHubPath, run: u64, filter: &str, caching: Caching) -> Pages {
        let url = format!("{}/actions/runs/{run}/jobs", path.api_path());
        let segments: Vec<&str> = url.split('/').skip(1).collect();
        Pages {
            url: join(&self.0.api, &segments, &[("filter", filter)]),
            caching,
            needs: NEEDS_JOBS,
            shown: 0,
        }
    }
}

fn repository(owner: &str, repo: &str) -> GitHubPath {
    GitHubPath::Repository {
        owner: owner.to_owned(),
        repo: repo.to_owned(),
    }
}
