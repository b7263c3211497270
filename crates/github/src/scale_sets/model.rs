//! What scale sets take and give.

use jiff::Timestamp;
use runner_manager_core::Labels;
use serde::Deserialize;

/// What a scale set shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSetSpec {
    /// Its name, unique in its runner group.
    pub name: String,
    /// What jobs ask for with `runs-on`.
    pub labels: Labels,
}

/// A scale set as GitHub knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSet {
    /// GitHub's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Vec<String>,
}

/// A runner as the Actions service knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSetRunner {
    /// GitHub's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The id of its scale set.
    pub scale_set: Option<u64>,
}

/// The numbers of a scale set, as the service counts them: the truth about its demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Statistics {
    /// Jobs that ask for it and are not assigned.
    pub total_available_jobs: usize,
    /// Jobs that were acquired and not assigned yet.
    pub total_acquired_jobs: usize,
    /// Jobs that are assigned to it, those that run included.
    pub total_assigned_jobs: usize,
    /// Jobs that run.
    pub total_running_jobs: usize,
    /// Its runners.
    pub total_registered_runners: usize,
    /// Its runners with a job.
    pub total_busy_runners: usize,
    /// Its runners without one.
    pub total_idle_runners: usize,
}

/// One message of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSetMessage {
    /// Its number; they grow.
    pub id: u64,
    /// The numbers at that time.
    pub statistics: Option<Statistics>,
    /// What became of jobs: at most 50, so never count them.
    pub jobs: Vec<ScaleSetJob>,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleSetJobState {
    /// It can be acquired.
    Available,
    /// It waits for a runner of this set.
    Assigned,
    /// A runner has begun it.
    Started,
    /// It has ended, with or without a runner.
    Completed,
}

/// What a message tells of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScaleSetJob {
    /// How far it has come.
    pub state: ScaleSetJobState,
    /// The service's number of it.
    pub request_id: u64,
    /// The job's id, in GitHub's words: where it is a number, that of the REST API.
    pub job_id: String,
    /// The name that people see.
    pub name: String,
    /// The repository's owner.
    pub owner: String,
    /// The repository's name.
    pub repository: String,
    /// The id of the workflow run.
    pub run_id: u64,
    /// The labels of `runs-on`.
    pub labels: Vec<String>,
    /// When it was queued.
    pub queued_at: Option<Timestamp>,
    /// When a runner got it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// GitHub's id of its runner.
    pub runner_id: Option<u64>,
    /// Its runner's name.
    pub runner_name: Option<String>,
    /// How it ended: `succeeded`, `failed`, `canceled` and others.
    pub result: Option<String>,
}
