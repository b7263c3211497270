//! Jobs, and who runs them.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::runners::Listener;
use super::{Event, State};
use crate::{Conclusion, JobSpec, JobStatus, JobView, RunnerChoice};

/// The most jobs that wait or run at once, and the most that are remembered.
const MAX_JOBS: usize = 10_000;
/// What is added to a job's id to be the id of a run that holds this job only.
const OWN_RUNS: u64 = 5_000_000;
/// What is added to the number of a run that holds several jobs.
const NUMBERED_RUNS: u64 = 1 << 40;

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) spec: JobSpec,
    pub(crate) status: JobStatus,
    pub(crate) conclusion: Option<Conclusion>,
    pub(crate) reason: Option<&'static str>,
    /// The runner that has it, from the assignment on, with its name and group.
    pub(crate) runner: Option<(u64, String, u64)>,
    /// The scale set that it was offered to, whether it was assigned, and when it was offered.
    pub(crate) scale_set: Option<u64>,
    pub(crate) assigned: bool,
    pub(crate) assigned_at: Option<Timestamp>,
    pub(crate) queued_at: Timestamp,
    pub(crate) runner_online_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) completed_at: Option<Timestamp>,
}

impl Job {
    /// The id of its workflow run.
    pub(crate) fn run_id(&self) -> u64 {
        match self.spec.run {
            Some(run) => run.saturating_add(NUMBERED_RUNS),
            None => self.id + OWN_RUNS,
        }
    }

    /// The runner, once it has picked the job up.
    pub(crate) fn picked_up_by(&self) -> Option<&(u64, String, u64)> {
        self.runner.as_ref().filter(|_| self.started_at.is_some())
    }

    pub(crate) fn view(&self) -> JobView {
        JobView {
            id: self.id,
            run_id: self.run_id(),
            name: self.spec.name.clone(),
            repo: self.spec.repo.clone(),
            status: self.status,
            conclusion: self.conclusion,
            reason: self.reason.map(str::to_owned),
            runner_name: self.picked_up_by().map(|(_, name, _)| name.clone()),
            labels: self.spec.labels.clone(),
            queued_at: self.queued_at,
            runner_online_at: self.runner_online_at,
            started_at: self.started_at,
            completed_at: self.completed_at,
        }
    }
}

/// A workflow run: what its jobs say together.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a> {
    pub(crate) first: &'a Job,
    pub(crate) jobs: Vec<&'a Job>,
    /// GitHub's word for where it stands.
    pub(crate) status: &'static str,
    pub(crate) conclusion: Option<Conclusion>,
    pub(crate) changed_at: Timestamp,
}

impl<'a> Run<'a> {
    fn of(jobs: impl Iterator<Item = &'a Job>) -> Option<Self> {
        let jobs: Vec<&Job> = jobs.collect();
        let first = *jobs.first()?;
        let any = |status| jobs.iter().any(|job| job.status == status);
        let status = if any(JobStatus::InProgress) {
            JobStatus::InProgress
        } else if any(JobStatus::Queued) {
            JobStatus::Queued
        } else {
            JobStatus::Completed
        };
        let ended = |conclusion| jobs.iter().any(|job| job.conclusion == Some(conclusion));
        let mut worst = [Conclusion::Failure, Conclusion::Cancelled].into_iter();
        let worst = worst.find(|conclusion| ended(*conclusion));
        let is_over = status == JobStatus::Completed;
        let conclusion = is_over.then(|| worst.unwrap_or(Conclusion::Success));
        let changed = jobs
            .iter()
            .map(|job| job.completed_at.or(job.started_at).unwrap_or(job.queued_at));
        let changed_at = changed.max().unwrap_or(first.queued_at);
        let held = jobs.iter().find_map(|job| job.spec.held);
        let status = match held {
            Some(held) if !is_over => held.as_str(),
            _ => status.as_str(),
        };
        Some(Self {
            first,
            jobs,
            status,
            conclusion,
            changed_at,
        })
    }

    fn is(&self, word: &str) -> bool {
        let conclusion = self.conclusion.map(Conclusion::as_str);
        self.status == word || conclusion == Some(word)
    }
}

impl State {
    /// Queues a job; none when too many wait or run.
    pub(crate) fn queue_job(&mut self, mut spec: JobSpec) -> Option<u64> {
        if self.jobs.len() >= MAX_JOBS {
            let over = |job: &&Job| job.status == JobStatus::Completed;
            let oldest = self.jobs.values().find(over)?.id;
            self.forget_job(oldest);
        }
        let id = self.next_job;
        self.next_job += 1;
        self.add_repo(&spec.repo);
        if spec.name.is_empty() {
            spec.name = format!("job-{id}");
        }
        let job = Job {
            id,
            spec,
            status: JobStatus::Queued,
            conclusion: None,
            reason: None,
            runner: None,
            scale_set: None,
            assigned: false,
            assigned_at: None,
            queued_at: self.now(),
            runner_online_at: None,
            started_at: None,
            completed_at: None,
        };
        self.runs.entry(job.run_id()).or_default().push(id);
        self.jobs.insert(id, job);
        self.open.insert(id);
        self.waiting.insert(id);
        self.event("queued", id);
        Some(id)
    }

    fn forget_job(&mut self, id: u64) {
        let Some(job) = self.jobs.remove(&id) else {
            return;
        };
        if let Some(jobs) = self.runs.get_mut(&job.run_id()) {
            jobs.retain(|known| *known != id);
            if jobs.is_empty() {
                self.runs.remove(&job.run_id());
            }
        }
    }

    pub(crate) fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// The jobs that wait or run.
    pub(super) fn open_jobs(&self) -> impl Iterator<Item = &Job> {
        self.open.iter().filter_map(|id| self.jobs.get(id))
    }

    /// A workflow run of a repository.
    pub(crate) fn run(&self, repo: &str, id: u64) -> Option<Run<'_>> {
        let jobs = self.runs.get(&id)?;
        let jobs = jobs.iter().filter_map(|id| self.jobs.get(id));
        Run::of(jobs.filter(|job| job.spec.repo.eq_ignore_ascii_case(repo)))
    }

    /// The workflow runs of a repository with this status or conclusion, newest first.
    pub(crate) fn runs_of(&self, repo: &str, status: Option<&str>) -> Vec<Run<'_>> {
        let unfinished = ["queued", "in_progress", "waiting", "pending", "requested"];
        let ids: BTreeSet<u64> = match status {
            // Of many runs only few are not over.
            Some(status) if unfinished.contains(&status) => {
                self.open_jobs().map(Job::run_id).collect()
            }
            _ => self.runs.keys().copied().collect(),
        };
        let runs = ids.iter().rev().filter_map(|id| self.run(repo, *id));
        runs.filter(|run| status.is_none_or(|status| run.is(status)))
            .collect()
    }

    /// Cancels a job. One that runs is over for GitHub at once; its runner hears of it.
    pub(crate) fn cancel_job(&mut self, id: u64) -> bool {
        let open = |job: &&Job| job.status != JobStatus::Completed;
        let Some(job) = self.jobs.get(&id).filter(open) else {
            return false;
        };
        let started = job.started_at.is_some();
        let runner = job.runner.as_ref().map(|(id, ..)| *id);
        self.complete(id, Conclusion::Cancelled, None);
        if let Some(runner) = runner.and_then(|id| self.runners.get_mut(&id)) {
            if !started {
                runner.job = None;
            }
            runner.notify.notify_waiters();
        }
        true
    }

    /// Gives waiting jobs, oldest first, to free runners.
    pub(crate) fn assign(&mut self, choice: RunnerChoice) {
        let free = self.runners.values().filter(|runner| runner.is_free());
        let mut free: Vec<u64> = free.map(|runner| runner.id).collect();
        if free.is_empty() || self.waiting.is_empty() {
            return;
        }
        let waiting: Vec<u64> = self.waiting.iter().copied().collect();
        for job in waiting {
            let fitting: Vec<u64> = free
                .iter()
                .filter(|id| self.fits(**id, job))
                .copied()
                .collect();
            let chosen = match choice {
                RunnerChoice::Random if fitting.len() > 1 => {
                    fitting.get(self.environment.rng.below(fitting.len()))
                }
                RunnerChoice::Oldest | RunnerChoice::Random => fitting.first(),
            };
            let Some(&runner) = chosen else { continue };
            free.retain(|id| *id != runner);
            self.give(job, runner);
            if free.is_empty() {
                return;
            }
        }
    }

    fn fits(&self, runner: u64, job: u64) -> bool {
        let (Some(runner), Some(job)) = (self.runners.get(&runner), self.jobs.get(&job)) else {
            return false;
        };
        runner.scale_set == job.scale_set
            && (job.assigned || job.scale_set.is_none())
            && runner.scope.serves(&job.spec.repo)
            && (job.scale_set.is_some() || runner.has_labels(&job.spec.labels))
    }

    fn give(&mut self, id: u64, runner: u64) {
        let (Some(job), Some(runner)) = (self.jobs.get_mut(&id), self.runners.get_mut(&runner))
        else {
            return;
        };
        runner.job = Some(id);
        job.runner = Some((runner.id, runner.name.clone(), runner.group_id));
        job.runner_online_at = runner.online_at;
        self.waiting.remove(&id);
        let session = runner.session.as_ref();
        let begins = session.is_some_and(|session| session.listener == Listener::InProcess);
        let runner = runner.id;
        self.wake(runner);
        if begins {
            self.begin(runner, id);
        }
    }

    fn wake(&self, runner: u64) {
        if let Some(runner) = self.runners.get(&runner) {
            runner.notify.notify_waiters();
        }
    }

    /// The runner has begun the job. False when the job is not its own any more.
    pub(crate) fn begin(&mut self, runner: u64, job: u64) -> bool {
        let now = self.now();
        let Some(job) = self.jobs.get_mut(&job) else {
            return false;
        };
        let own = job.runner.as_ref().is_some_and(|(id, ..)| *id == runner);
        if !own || job.status == JobStatus::Completed {
            return false;
        }
        let id = job.id;
        if job.started_at.is_none() {
            job.started_at = Some(now);
            job.status = JobStatus::InProgress;
            self.event("in_progress", id);
            self.tell_set("JobStarted", id);
        }
        true
    }

    /// The runner has ended the job: an ephemeral one is gone with it.
    pub(crate) fn finish(&mut self, runner: u64, job: u64, conclusion: Conclusion) {
        let held = self.runners.get(&runner).and_then(|runner| runner.job);
        if held != Some(job) {
            return;
        }
        self.complete(job, conclusion, None);
        if let Some(runner) = self.runners.get_mut(&runner) {
            runner.job = None;
            runner.spent = runner.ephemeral;
        }
        if self.runners.get(&runner).is_some_and(|r| r.ephemeral) {
            self.drop_runner(runner);
        }
    }

    /// The runner is gone: a job that it had begun has failed, another waits again.
    pub(crate) fn lose(&mut self, runner: u64) {
        let Some(runner) = self.runners.get_mut(&runner) else {
            return;
        };
        runner.session = None;
        runner.notify.notify_waiters();
        let Some(id) = runner.job.take() else { return };
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        if job.started_at.is_none() {
            job.runner = None;
            if job.status == JobStatus::Queued {
                self.waiting.insert(id);
            }
            return;
        }
        runner.spent = runner.ephemeral;
        let reason = "lost communication with the runner";
        self.complete(id, Conclusion::Failure, Some(reason));
    }

    fn complete(&mut self, id: u64, conclusion: Conclusion, reason: Option<&'static str>) {
        let now = self.now();
        let open = |job: &&mut Job| job.status != JobStatus::Completed;
        let Some(job) = self.jobs.get_mut(&id).filter(open) else {
            return;
        };
        self.open.remove(&id);
        self.waiting.remove(&id);
        job.status = JobStatus::Completed;
        job.conclusion = Some(conclusion);
        job.reason = reason;
        job.completed_at = Some(now);
        self.event("completed", id);
        self.tell_set("JobCompleted", id);
    }

    fn event(&mut self, action: &'static str, id: u64) {
        if let Some(job) = self.jobs.get(&id) {
            self.events.push(Event::Job(action, Box::new(job.clone())));
        }
    }
}
