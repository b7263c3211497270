//! Jobs, and who runs them.

use jiff::Timestamp;

use super::State;
use crate::{Conclusion, JobSpec, JobStatus, JobView};

/// The most jobs that wait or run at once, and the most that are remembered.
const MAX_JOBS: usize = 10_000;

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
    /// The id of its workflow run, which holds this job only.
    pub(crate) fn run_id(&self) -> u64 {
        self.id + 5_000_000
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

impl State {
    /// Queues a job; none when too many wait or run.
    pub(crate) fn queue_job(&mut self, mut spec: JobSpec) -> Option<u64> {
        if self.jobs.len() >= MAX_JOBS {
            let over = |job: &&Job| job.status == JobStatus::Completed;
            let oldest = self.jobs.values().find(over)?.id;
            self.jobs.remove(&oldest);
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
            queued_at: Timestamp::now(),
            runner_online_at: None,
            started_at: None,
            completed_at: None,
        };
        self.jobs.insert(id, job);
        self.event("queued", id);
        Some(id)
    }

    pub(crate) fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub(crate) fn jobs_of<'a>(&'a self, repo: &'a str) -> impl Iterator<Item = &'a Job> {
        let of = |job: &&Job| job.spec.repo.eq_ignore_ascii_case(repo);
        self.jobs.values().filter(of)
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
    pub(crate) fn assign(&mut self) {
        if !self.runners.values().any(super::Runner::is_free) {
            return;
        }
        let waiting = |job: &&mut Job| job.status == JobStatus::Queued && job.runner.is_none();
        for job in self.jobs.values_mut().filter(waiting) {
            let fits = |runner: &&mut super::Runner| {
                runner.is_free()
                    && runner.scale_set == job.scale_set
                    && (job.assigned || job.scale_set.is_none())
                    && runner.scope.serves(&job.spec.repo)
                    && (job.scale_set.is_some() || runner.has_labels(&job.spec.labels))
            };
            if let Some(runner) = self.runners.values_mut().find(fits) {
                runner.job = Some(job.id);
                job.runner = Some((runner.id, runner.name.clone(), runner.group_id));
                job.runner_online_at = runner.online_at;
                runner.notify.notify_waiters();
            }
        }
    }

    /// The runner has begun the job. False when the job is not its own any more.
    pub(crate) fn begin(&mut self, runner: u64, job: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&job) else {
            return false;
        };
        let own = job.runner.as_ref().is_some_and(|(id, ..)| *id == runner);
        if !own || job.status == JobStatus::Completed {
            return false;
        }
        let id = job.id;
        if job.started_at.is_none() {
            job.started_at = Some(Timestamp::now());
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
    pub(super) fn lose(&mut self, runner: u64) {
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
            return;
        }
        runner.spent = runner.ephemeral;
        let reason = "lost communication with the runner";
        self.complete(id, Conclusion::Failure, Some(reason));
    }

    fn complete(&mut self, id: u64, conclusion: Conclusion, reason: Option<&'static str>) {
        let open = |job: &&mut Job| job.status != JobStatus::Completed;
        let Some(job) = self.jobs.get_mut(&id).filter(open) else {
            return;
        };
        job.status = JobStatus::Completed;
        job.conclusion = Some(conclusion);
        job.reason = reason;
        job.completed_at = Some(Timestamp::now());
        self.event("completed", id);
        self.tell_set("JobCompleted", id);
    }

    fn event(&mut self, action: &'static str, id: u64) {
        if let Some(job) = self.jobs.get(&id) {
            self.events.push((action, Box::new(job.clone())));
        }
    }
}
