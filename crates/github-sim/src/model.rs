//! What callers give to the simulator and see of it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a job shall end, or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// It did what it should.
    Success,
    /// It failed, or its runner was lost.
    Failure,
    /// It was cancelled.
    Cancelled,
}

impl Conclusion {
    /// GitHub's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// It waits for a runner.
    Queued,
    /// A runner runs it.
    InProgress,
    /// It is over.
    Completed,
}

impl JobStatus {
    /// GitHub's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }
}

/// Why a run that is not over goes no further, as its status says. Its queued jobs wait for runners
/// all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldRun {
    /// It waits for an approval.
    Waiting,
    /// It waits for another run of its concurrency group.
    Pending,
    /// It was asked for and has not begun.
    Requested,
}

impl HeldRun {
    /// GitHub's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Pending => "pending",
            Self::Requested => "requested",
        }
    }
}

/// A job to queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobSpec {
    /// `owner/name` of the repository.
    pub repo: String,
    /// The number of its workflow run: jobs with the same one belong together. A run of its own
    /// when absent.
    pub run: Option<u64>,
    /// The status that the run shows until it is over, in place of what its jobs say.
    pub held: Option<HeldRun>,
    /// The job's name; `job-ID` when empty.
    pub name: String,
    /// The workflow's name.
    pub workflow: String,
    /// The event that started the workflow.
    pub event: String,
    /// The branch.
    pub branch: String,
    /// The labels of `runs-on`.
    pub labels: Vec<String>,
    /// How long the job takes after its script, in milliseconds.
    pub duration_ms: u64,
    /// A shell script to run in the job's workspace. When it fails, so does the job.
    pub script: Option<String>,
    /// How the job ends when the script succeeds.
    pub conclusion: Conclusion,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            repo: "acme/app".into(),
            run: None,
            held: None,
            name: String::new(),
            workflow: "ci".into(),
            event: "push".into(),
            branch: "main".into(),
            labels: vec!["self-hosted".into()],
            duration_ms: 0,
            script: None,
            conclusion: Conclusion::Success,
        }
    }
}

impl JobSpec {
    /// A job of this repository for runners with these labels, that succeeds at once.
    #[must_use]
    pub fn new(repo: &str, labels: &[&str]) -> Self {
        Self {
            repo: repo.to_owned(),
            labels: labels.iter().map(|&label| label.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The same job, taking this long.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// The same job, of a run that shows this status until it is over.
    #[must_use]
    pub fn held(mut self, held: HeldRun) -> Self {
        self.held = Some(held);
        self
    }

    /// The same job, ending like this.
    #[must_use]
    pub fn ending(mut self, conclusion: Conclusion) -> Self {
        self.conclusion = conclusion;
        self
    }

    /// The same job, running this script.
    #[must_use]
    pub fn running(mut self, script: &str) -> Self {
        self.script = Some(script.to_owned());
        self
    }
}

/// A job as the simulator knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobView {
    /// The job's id.
    pub id: u64,
    /// The id of its workflow run.
    pub run_id: u64,
    /// The job's name.
    pub name: String,
    /// `owner/name`.
    pub repo: String,
    /// Where it stands.
    pub status: JobStatus,
    /// How it ended.
    pub conclusion: Option<Conclusion>,
    /// Why, where the conclusion alone does not say: `lost communication`, …
    pub reason: Option<String>,
    /// The runner that took it.
    pub runner_name: Option<String>,
    /// The labels of `runs-on`.
    pub labels: Vec<String>,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// When its runner first came online.
    pub runner_online_at: Option<Timestamp>,
    /// When a runner picked it up.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// A runner as the simulator knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunnerView {
    /// The runner's id.
    pub id: u64,
    /// The runner's name.
    pub name: String,
    /// Its scope as GitHub's path has it: `orgs/acme`, `repos/acme/app`, `enterprises/acme-inc`.
    pub scope: String,
    /// Whether it is connected.
    pub online: bool,
    /// Whether it has a job.
    pub busy: bool,
    /// Its labels.
    pub labels: Vec<String>,
    /// Whether it serves one job only.
    pub ephemeral: bool,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// When it first came online.
    pub online_at: Option<Timestamp>,
}

/// A scale set as the simulator knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScaleSetView {
    /// The scale set's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its scope as GitHub's path has it.
    pub scope: String,
    /// Its labels.
    pub labels: Vec<String>,
    /// Who listens to its queue.
    pub owner: Option<String>,
    /// How many jobs may be assigned to it.
    pub capacity: usize,
    /// How many messages were sent and not acknowledged.
    pub unacknowledged: usize,
}

/// Everything at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// All jobs, in order of id.
    pub jobs: Vec<JobView>,
    /// All registered runners, in order of id.
    pub runners: Vec<RunnerView>,
}
