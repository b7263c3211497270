//! Polls repositories for the jobs that wait for a runner.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use runner_manager_core::{Error, ErrorKind, GitHubPath, Result};
use tokio::time::Instant;

use crate::call::Caching;
use crate::jobs::repository;
use crate::model::RemoteJob;
use crate::pages::{Gathered, PER_PAGE, Pages};
use crate::urls::{NEEDS_JOBS, join};
use crate::wire::OpenRun;
use crate::{GitHub, wire};

/// The statuses of a run that may hold a queued job, those that hold most first.
const STATUSES: [&str; 5] = ["queued", "in_progress", "waiting", "pending", "requested"];
/// How many of them are listed in every poll of many repositories. The others hold few runs, and
/// are listed in every third poll of a repository then.
const OFTEN: usize = 2;
/// How many repositories are few.
const FEW: usize = 10;
/// How many repositories, and then runs, are asked about at once.
const AT_ONCE: usize = 8;
/// GitHub shows no more runs than this when they are filtered: the newest.
const RUNS_SHOWN: u64 = 1_000;
/// How many times so many runs are listed, each time those that are older.
const MAX_WINDOWS: usize = 10;
/// Items per page of a run's jobs where whole pages fail: GitHub gives up on long answers.
const SMALL_PAGE: u64 = 30;
/// How many runs are read in a poll although GitHub's points of a minute are used up.
const LEAST_READS: usize = 5;
/// GitHub writes times in whole seconds and its lists lag: what changed less than this before a
/// list may have changed again under the same time.
const SETTLED: SignedDuration = SignedDuration::from_secs(5);
/// After how long an unchanged run is read again, with queued jobs and without.
const RECHECK_QUEUED: Duration = Duration::from_secs(30);
const RECHECK: Duration = Duration::from_secs(300);

/// What a poll found.
#[derive(Debug, Default)]
pub struct PolledJobs {
    /// The jobs that wait for a runner, oldest first, each once. Of what could not be read, and of
    /// runs that did not change, as they were read before.
    pub queued: Vec<RemoteJob>,
    /// The ids of the jobs that this poll read in another state.
    pub begun: HashSet<u64>,
    /// Why a repository, as `owner/name`, could not be read, or not all of it.
    pub failed: BTreeMap<String, Error>,
    /// How many unfinished runs have never been read: they are many, and GitHub takes only so many
    /// calls a minute. Each poll reads more of them.
    pub unread_runs: usize,
}

/// Polls repositories again and again, and remembers what it read.
///
/// A poll lists the unfinished runs of each repository: five calls where these are no more than
/// 100. It reads the jobs of those runs that are new or have changed, and of the others now and
/// then. While GitHub's points of a minute run short, fewer runs are read in each poll, those
/// first that were never read.
#[derive(Debug)]
pub struct JobPoller {
    github: GitHub,
    repositories: BTreeMap<(String, String), Repository>,
    polls: usize,
}

#[derive(Debug, Default)]
struct Repository {
    /// The runs of each status as they were last listed.
    listed: [Vec<OpenRun>; STATUSES.len()],
    runs: BTreeMap<u64, Run>,
}

/// An unfinished run.
#[derive(Debug, Default)]
struct Run {
    /// When it last changed, and when it was listed so, by GitHub's clock.
    updated_at: Option<Timestamp>,
    listed_at: Option<Timestamp>,
    /// Whether the last lists had it.
    is_listed: bool,
    /// When it was last tried, and when it was last read.
    tried: Option<Instant>,
    read: Option<Instant>,
    /// The change that was read, once nothing can have happened at the same time.
    settled: Option<Timestamp>,
    queued: Vec<RemoteJob>,
}

/// How urgent it is to read a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    New,
    Changed,
    Recheck,
}

impl Run {
    fn urgency(&self) -> Option<Urgency> {
        let Some(read) = self.read else {
            return Some(Urgency::New);
        };
        if !self.is_listed || (self.updated_at.is_some() && self.settled != self.updated_at) {
            return Some(Urgency::Changed);
        }
        let interval = match (self.updated_at, self.queued.is_empty()) {
            // This server does not say when.
            (None, _) => Duration::ZERO,
            (Some(_), false) => RECHECK_QUEUED,
            (Some(_), true) => RECHECK,
        };
        (read.elapsed() >= interval).then_some(Urgency::Recheck)
    }

    fn take(&mut self, jobs: Gathered<RemoteJob>, path: &GitHubPath, begun: &mut HashSet<u64>) {
        self.read = Some(Instant::now());
        let is_settled = |changed: &Timestamp| {
            let listed = self.listed_at.unwrap_or(*changed);
            listed.duration_since(*changed) >= SETTLED
        };
        self.settled = self.updated_at.filter(is_settled);
        let before: HashMap<u64, RemoteJob> =
            self.queued.drain(..).map(|job| (job.id, job)).collect();
        let mut read = HashSet::new();
        for mut job in jobs.items {
            read.insert(job.id);
            if job.status != "queued" {
                begun.insert(job.id);
                continue;
            }
            if let GitHubPath::Repository { owner, repo } = path {
                (job.owner, job.repo) = (owner.clone(), repo.clone());
            }
            if let Some(known) = before.get(&job.id) {
                // A server that does not say when leaves the time at which it was read.
                job.created_at = job.created_at.min(known.created_at);
            }
            self.queued.push(job);
        }
        let odd: HashSet<u64> = jobs.unread.iter().filter_map(|odd| odd.id).collect();
        // Only a whole list says that a job is not there.
        let stays = |job: &RemoteJob| {
            !read.contains(&job.id) && (jobs.gap.is_some() || odd.contains(&job.id))
        };
        self.queued.extend(before.into_values().filter(stays));
    }
}

impl Repository {
    /// Takes the runs of one status.
    fn take(&mut self, status: usize, found: Gathered<OpenRun>) {
        for run in &found.items {
            let known = self.runs.entry(run.id).or_default();
            (known.updated_at, known.listed_at) = (run.updated_at, found.date);
        }
        let before = std::mem::take(&mut self.listed[status]);
        let mut listed = found.items;
        if found.gap.is_some() {
            let ids: HashSet<u64> = listed.iter().map(|run| run.id).collect();
            listed.extend(before.into_iter().filter(|run| !ids.contains(&run.id)));
        }
        self.listed[status] = listed;
    }

    /// Forgets the runs that are over. One with a job that was queued is read once more first.
    fn forget(&mut self) {
        let listed: HashSet<u64> = self.listed.iter().flatten().map(|run| run.id).collect();
        self.runs.retain(|id, run| {
            run.is_listed = listed.contains(id);
            run.is_listed || !run.queued.is_empty()
        });
    }
}

impl JobPoller {
    /// A poller that has read nothing yet.
    #[must_use]
    pub fn new(github: GitHub) -> Self {
        Self {
            github,
            repositories: BTreeMap::new(),
            polls: 0,
        }
    }

    /// Polls these repositories (owner and name), and forgets all others. One that fails leaves
    /// what was last known of it, and is named.
    pub async fn poll(&mut self, repositories: &[(String, String)]) -> PolledJobs {
        self.poll_within(repositories, None).await
    }

    /// The same, reading at most so many runs.
    pub(crate) async fn poll_within(
        &mut self,
        repositories: &[(String, String)],
        most: Option<usize>,
    ) -> PolledJobs {
        let wanted: BTreeSet<&(String, String)> = repositories.iter().collect();
        self.repositories.retain(|name, _| wanted.contains(name));
        let mut found = PolledJobs::default();
        self.list(&wanted, &mut found).await;
        self.read(most, &mut found).await;
        self.polls += 1;
        for repository in self.repositories.values_mut() {
            repository.forget();
            let runs = repository.runs.values();
            found.unread_runs += runs.clone().filter(|run| run.read.is_none()).count();
            found
                .queued
                .extend(runs.flat_map(|run| run.queued.iter().cloned()));
        }
        found.queued.sort_by_key(|job| (job.created_at, job.id));
        found
    }

    /// Lists the unfinished runs.
    async fn list(&mut self, wanted: &BTreeSet<&(String, String)>, found: &mut PolledJobs) {
        // Collected first: a future that holds the closures could not be spawned.
        let asked: Vec<_> = wanted
            .iter()
            .enumerate()
            .map(|(place, (owner, repo))| {
                let key = (owner.clone(), repo.clone());
                let all = wanted.len() <= FEW
                    || (self.polls + place).is_multiple_of(3)
                    || !self.repositories.contains_key(&key);
                let count = if all { STATUSES.len() } else { OFTEN };
                unfinished_runs(self.github.clone(), key, count)
            })
            .collect();
        let answers: Vec<_> = stream::iter(asked).buffered(AT_ONCE).collect().await;
        for (key, lists) in answers {
            let name = format!("{}/{}", key.0, key.1);
            let repository = self.repositories.entry(key).or_default();
            for (status, list) in lists.into_iter().enumerate() {
                match list {
                    Ok(list) => {
                        if let Some(gap) = &list.gap {
                            found
                                .failed
                                .entry(name.clone())
                                .or_insert_with(|| again(gap));
                        }
                        repository.take(status, list);
                    }
                    Err(error) => {
                        found.failed.entry(name.clone()).or_insert(error);
                    }
                }
            }
            repository.forget();
        }
    }

    /// Reads the jobs of the runs that are due, as far as GitHub's points of a minute go.
    async fn read(&mut self, most: Option<usize>, found: &mut PolledJobs) {
        let mut due: Vec<_> = Vec::new();
        for (key, repository) in &self.repositories {
            for (id, run) in &repository.runs {
                if let Some(urgency) = run.urgency() {
                    let waited = Reverse(run.tried.map(|tried| tried.elapsed()));
                    due.push((urgency, run.tried.is_some(), waited, *id, key.clone()));
                }
            }
        }
        due.sort_unstable();
        let mut left: HashMap<String, usize> = HashMap::new();
        due.retain(|(.., (owner, repo))| {
            let left = left.entry(owner.to_lowercase()).or_insert_with(|| {
                let points = || self.github.reads_left(&repository(owner, repo));
                most.unwrap_or_else(|| points().max(LEAST_READS))
            });
            let fits = *left > 0;
            *left = left.saturating_sub(1);
            fits
        });
        let asked: Vec<_> = due
            .into_iter()
            .map(|(.., id, key)| jobs_of_run(self.github.clone(), key, id))
            .collect();
        let mut answers = stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some((key, id, jobs)) = answers.next().await {
            let path = repository(&key.0, &key.1);
            let name = format!("{}/{}", key.0, key.1);
            let Some(repository) = self.repositories.get_mut(&key) else {
                continue;
            };
            let Some(run) = repository.runs.get_mut(&id) else {
                continue;
            };
            run.tried = Some(Instant::now());
            match jobs {
                Ok(jobs) => {
                    if let Some(gap) = &jobs.gap {
                        found.failed.entry(name).or_insert_with(|| again(gap));
                    }
                    run.take(jobs, &path, &mut found.begun);
                }
                // The run was deleted since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    repository.runs.remove(&id);
                }
                Err(error) => {
                    found.failed.entry(name).or_insert(error);
                }
            }
        }
    }
}

/// The same error, for another place.
fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string()).with_retry(error.retry())
}

/// The unfinished runs of a repository, by status. Nothing more is asked of one that may not be
/// read, or whose first lists fail.
async fn unfinished_runs(
    github: GitHub,
    key: (String, String),
    statuses: usize,
) -> ((String, String), Vec<Result<Gathered<OpenRun>>>) {
    let path = repository(&key.0, &key.1);
    let mut lists = Vec::new();
    // A run that starts between two calls is seen by the second.
    for (place, status) in STATUSES.iter().take(statuses).enumerate() {
        let list = runs_of(&github, &path, &key, status).await;
        let refused = |e: &Error| {
            matches!(
                e.kind(),
                ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::Unauthenticated
            )
        };
        match list {
            Err(error) if lists.iter().all(Result::is_err) && (place > 0 || refused(&error)) => {
                lists.push(Err(error));
                break;
            }
            // An old server does not know the status, and has no such runs.
            Err(error)
                if place >= OFTEN
                    && matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::InvalidRequest
                    ) =>
            {
                tracing::debug!(scope = %path, status, %error, "this status of runs is not known");
                lists.push(Ok(Gathered::empty()));
            }
            list => lists.push(list),
        }
    }
    (key, lists)
}

/// The runs of one status. GitHub shows the newest 1,000 of a list: those beyond are listed by when
/// they were made.
async fn runs_of(
    github: &GitHub,
    path: &GitHubPath,
    (owner, repo): &(String, String),
    status: &str,
) -> Result<Gathered<OpenRun>> {
    let segments = ["repos", owner, repo, "actions", "runs"];
    let list = |query: &[(&str, &str)]| Pages {
        url: join(github.api(), &segments, query),
        caching: Caching::ByEtag,
        needs: NEEDS_JOBS,
        shown: RUNS_SHOWN,
        size: PER_PAGE,
    };
    let mut all = github
        .gather::<wire::Runs>(path, &list(&[("status", status)]))
        .await?;
    let mut known: HashSet<u64> = all.items.iter().map(|run| run.id).collect();
    let mut more = all.total > RUNS_SHOWN;
    for _ in 1..MAX_WINDOWS {
        let oldest = all.items.iter().filter_map(|run| run.created_at).min();
        let (true, Some(oldest)) = (more, oldest) else {
            break;
        };
        let made = format!("<={oldest}");
        let older = list(&[("status", status), ("created", &made)]);
        let older = match github.gather::<wire::Runs>(path, &older).await {
            Ok(older) => older,
            Err(error) => {
                all.gap = Some(error);
                break;
            }
        };
        more = older.total > RUNS_SHOWN;
        let before = known.len();
        let new = older.items.into_iter().filter(|run| known.insert(run.id));
        all.items.extend(new);
        all.gap = all.gap.or(older.gap);
        if known.len() == before {
            break;
        }
    }
    Ok(all)
}

/// The jobs of a run's latest attempt.
async fn jobs_of_run(
    github: GitHub,
    key: (String, String),
    run: u64,
) -> ((String, String), u64, Result<Gathered<RemoteJob>>) {
    let path = repository(&key.0, &key.1);
    let mut pages = github.jobs_of_run(&path, run, "latest", Caching::ByEtag);
    let mut jobs = github.gather::<wire::Jobs>(&path, &pages).await;
    let failed = match &jobs {
        Ok(jobs) => jobs.gap.as_ref(),
        Err(error) => Some(error),
    };
    if failed.is_some_and(|error| error.kind() == ErrorKind::Unreachable) {
        // GitHub gives up on pages of long answers, and not on smaller ones.
        pages.size = SMALL_PAGE;
        if let Ok(small) = github.gather::<wire::Jobs>(&path, &pages).await {
            jobs = Ok(small);
        }
    }
    (key, run, jobs)
}
