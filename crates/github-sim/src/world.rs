//! What the simulated GitHub knows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

/// How long a runner may be silent before it is offline and its job lost.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// A job to queue.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// `owner/repo`.
    pub repository: String,
    /// The job's name.
    pub name: String,
    /// The labels of `runs-on`.
    pub labels: Vec<String>,
    /// How long it runs.
    pub duration: Duration,
    /// The exit code of its script; anything but 0 fails the job.
    pub exit_code: u8,
}

/// A job as it stands.
#[derive(Debug, Clone)]
pub struct JobView {
    /// Its id.
    pub id: u64,
    /// What was queued.
    pub spec: JobSpec,
    /// `queued`, `in_progress` or `completed`.
    pub status: &'static str,
    /// `success`, `failure` or `cancelled`, once completed.
    pub conclusion: Option<&'static str>,
    /// The runner that took it.
    pub runner: Option<String>,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// When its runner was first online.
    pub online_at: Option<Timestamp>,
    /// When its runner took it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

/// A registered runner as it stands.
#[derive(Debug, Clone)]
pub struct RunnerView {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whether it is connected.
    pub online: bool,
    /// Whether it runs a job.
    pub busy: bool,
}

pub(crate) struct Runner {
    pub(crate) name: String,
    pub(crate) scope: String,
    pub(crate) labels: Vec<String>,
    pub(crate) secret: String,
    pub(crate) seen: Option<Instant>,
    pub(crate) online_at: Option<Timestamp>,
    pub(crate) job: Option<u64>,
}

impl Runner {
    fn is_online(&self) -> bool {
        self.seen.is_some_and(|seen| seen.elapsed() < SILENCE)
    }
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) runners: BTreeMap<u64, Runner>,
    pub(crate) jobs: BTreeMap<u64, JobView>,
    pub(crate) registrations: u64,
    last_id: u64,
}

impl World {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn queue(&mut self, spec: JobSpec) -> u64 {
        let id = self.next_id();
        let job = JobView {
            id,
            spec,
            status: "queued",
            conclusion: None,
            runner: None,
            queued_at: Timestamp::now(),
            online_at: None,
            started_at: None,
            completed_at: None,
        };
        self.jobs.insert(id, job);
        id
    }

    pub(crate) fn complete(&mut self, id: u64, conclusion: &'static str) {
        if let Some(job) = self.jobs.get_mut(&id)
            && job.status != "completed"
        {
            job.status = "completed";
            job.conclusion = Some(conclusion);
            job.completed_at = Some(Timestamp::now());
        }
    }

    /// Registers a runner, unless the scope has one of this name.
    pub(crate) fn register(
        &mut self,
        scope: &str,
        name: &str,
        labels: Vec<String>,
    ) -> Option<(u64, String)> {
        if self
            .runners
            .values()
            .any(|r| r.scope == scope && r.name == name)
        {
            return None;
        }
        let (id, secret) = (self.next_id(), format!("{:032x}", rand::random::<u128>()));
        self.registrations += 1;
        let runner = Runner {
            name: name.to_owned(),
            scope: scope.to_owned(),
            labels,
            secret: secret.clone(),
            seen: None,
            online_at: None,
            job: None,
        };
        self.runners.insert(id, runner);
        Some((id, secret))
    }

    pub(crate) fn by_secret(&mut self, secret: &str) -> Option<(u64, &mut Runner)> {
        let found = self.runners.iter_mut().find(|(_, r)| r.secret == secret)?;
        found.1.seen = Some(Instant::now());
        found.1.online_at.get_or_insert_with(Timestamp::now);
        Some((*found.0, found.1))
    }

    /// Gives a runner the oldest queued job whose labels it offers.
    pub(crate) fn assign(&mut self, id: u64) -> Option<JobView> {
        let runner = self.runners.get_mut(&id)?;
        let offers = |wanted: &String| runner.labels.iter().any(|l| l.eq_ignore_ascii_case(wanted));
        let reaches = |repository: &str| {
            let owner = repository.split('/').next().unwrap_or_default();
            let scope = runner.scope.as_str();
            scope == format!("repos/{repository}")
                || scope == format!("orgs/{owner}")
                || scope.starts_with("enterprises/")
        };
        let fits = |job: &&mut JobView| {
            job.status == "queued"
                && reaches(&job.spec.repository)
                && job.spec.labels.iter().all(offers)
        };
        let job = self.jobs.values_mut().find(fits)?;
        job.status = "in_progress";
        job.runner = Some(runner.name.clone());
        job.online_at = runner.online_at;
        job.started_at = Some(Timestamp::now());
        runner.job = Some(job.id);
        Some(job.clone())
    }

    /// Ends the jobs of runners that have been silent for too long.
    pub(crate) fn settle(&mut self) {
        let lost: Vec<u64> = self
            .runners
            .values_mut()
            .filter(|r| r.seen.is_some() && !r.is_online())
            .filter_map(|r| r.job.take())
            .collect();
        for job in lost {
            self.complete(job, "failure");
        }
    }

    pub(crate) fn runner_json(&self, id: u64) -> Value {
        let Some(r) = self.runners.get(&id) else {
            return Value::Null;
        };
        let labels = r.labels.iter().zip(1..);
        let labels = labels.map(|(name, id)| json!({ "id": id, "name": name, "type": "custom" }));
        json!({
            "id": id,
            "name": r.name,
            "os": "linux",
            "status": if r.is_online() { "online" } else { "offline" },
            "busy": r.job.is_some(),
            "ephemeral": true,
            "runner_group_id": 1,
            "labels": labels.collect::<Vec<_>>(),
        })
    }

    pub(crate) fn view(&self) -> Vec<RunnerView> {
        let view = |(id, r): (&u64, &Runner)| RunnerView {
            id: *id,
            name: r.name.clone(),
            online: r.is_online(),
            busy: r.job.is_some(),
        };
        self.runners.iter().map(view).collect()
    }
}

/// A job as the REST API shows it. Every job is a workflow run of its own, with the same id.
pub(crate) fn job_json(job: &JobView) -> Value {
    json!({
        "id": job.id,
        "run_id": job.id,
        "name": job.spec.name,
        "workflow_name": "demo",
        "labels": job.spec.labels,
        "status": job.status,
        "conclusion": job.conclusion,
        "runner_id": null,
        "runner_name": job.runner,
        "created_at": job.queued_at.to_string(),
        "started_at": job.started_at.unwrap_or(job.queued_at).to_string(),
        "completed_at": job.completed_at.map(|t| t.to_string()),
    })
}
