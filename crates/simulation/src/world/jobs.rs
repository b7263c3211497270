//! What the users know of their jobs, to hold the manager against.

use std::collections::{BTreeMap, BTreeSet};

use runner_manager_github_sim::{JobStatus, JobView};

/// A job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) labels: Vec<String>,
    pub(crate) status: JobStatus,
    /// The name of its runner, once one has begun it.
    pub(crate) runner: Option<String>,
}

/// All jobs.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    all: BTreeMap<u64, Job>,
    queued: BTreeSet<u64>,
    unfinished: usize,
}

impl Jobs {
    pub(crate) fn note(&mut self, view: &JobView) {
        let job = Job {
            labels: view.labels.clone(),
            status: view.status,
            runner: view.runner_name.clone(),
        };
        let open = |status: JobStatus| usize::from(status != JobStatus::Completed);
        let is_open = open(job.status);
        let old = self.all.insert(view.id, job);
        self.unfinished = self.unfinished + is_open - old.map_or(0, |old| open(old.status));
        if view.status == JobStatus::Queued {
            self.queued.insert(view.id);
        } else {
            self.queued.remove(&view.id);
        }
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Job> {
        self.all.get(&id)
    }

    pub(crate) fn is_queued(&self, id: u64) -> bool {
        self.queued.contains(&id)
    }

    /// The labels of all jobs that wait.
    pub(crate) fn queued(&self) -> impl Iterator<Item = &[String]> {
        let jobs = self.queued.iter().filter_map(|id| self.all.get(id));
        jobs.map(|job| job.labels.as_slice())
    }

    /// How many jobs wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queued.len()
    }

    /// How many jobs wait or run.
    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Whether these labels of a job are such.
    pub(crate) fn has_labels(&self, id: u64, are: impl Fn(&[String]) -> bool) -> bool {
        self.get(id).is_some_and(|job| are(&job.labels))
    }
}
