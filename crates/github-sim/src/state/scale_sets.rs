//! Runner scale sets: what is assigned to them, and the queues that tell of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Job, NewRunner, Purpose, Refusal, Runner, Scope, State};
use crate::{Conclusion, JobOffer, JobStatus, ScaleSetView};

/// The most items in one message; GitHub's own bound.
const MAX_ITEMS: usize = 50;
/// What is added to a job's id to be the number of its request.
pub(crate) const REQUESTS: u64 = 9_000_000;

/// A scale set.
pub(crate) struct ScaleSet {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) group_id: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) setting: Value,
    pub(crate) created_on: Timestamp,
    session: Option<QueueSession>,
    /// How many jobs may be assigned to it in all, as its listener said last.
    capacity: usize,
    /// What the next messages tell.
    pending: VecDeque<Value>,
    /// Messages that are not acknowledged.
    messages: VecDeque<(u64, Value)>,
    next_message: u64,
}

/// The listener of a queue.
struct QueueSession {
    id: String,
    owner: String,
    last_seen: Instant,
}

/// What a new or changed scale set shall be.
pub(crate) struct NewScaleSet {
    pub(crate) name: String,
    pub(crate) group_id: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) setting: Value,
}

impl State {
    pub(crate) fn scale_set(&self, scope: &Scope, id: u64) -> Option<&ScaleSet> {
        self.scale_sets.get(&id).filter(|set| set.scope.is(scope))
    }

    pub(crate) fn scale_set_named(
        &self,
        scope: &Scope,
        group_id: u64,
        name: &str,
    ) -> Option<&ScaleSet> {
        self.scale_sets.values().find(|set| {
            set.scope.is(scope) && set.group_id == group_id && set.name.eq_ignore_ascii_case(name)
        })
    }

    pub(crate) fn scale_set_views(&self) -> Vec<ScaleSetView> {
        let view = |set: &ScaleSet| ScaleSetView {
            id: set.id,
            name: set.name.clone(),
            scope: set.scope.api_path(),
            labels: set.labels.clone(),
            owner: set.session.as_ref().map(|session| session.owner.clone()),
            capacity: set.capacity,
            unacknowledged: set.messages.len(),
        };
        self.scale_sets.values().map(view).collect()
    }

    pub(crate) fn make_scale_set(
        &mut self,
        scope: Scope,
        new: NewScaleSet,
    ) -> Result<u64, Refusal> {
        if self
            .scale_set_named(&scope, new.group_id, &new.name)
            .is_some()
        {
            return Err(Refusal::NameTaken);
        }
        let id = self.next_scale_set;
        self.next_scale_set += 1;
        let set = ScaleSet {
            id,
            scope,
            name: new.name,
            group_id: new.group_id,
            labels: new.labels,
            setting: new.setting,
            created_on: self.now(),
            session: None,
            capacity: 0,
            pending: VecDeque::new(),
            messages: VecDeque::new(),
            next_message: 1,
        };
        self.scale_sets.insert(id, set);
        Ok(id)
    }

    pub(crate) fn change_scale_set(&mut self, id: u64, new: NewScaleSet) {
        if let Some(set) = self.scale_sets.get_mut(&id) {
            set.labels = new.labels;
            set.setting = new.setting;
        }
    }

    /// Removes a scale set: its jobs wait for anybody again.
    pub(crate) fn drop_scale_set(&mut self, id: u64) {
        self.scale_sets.remove(&id);
        let of = |job: &&mut Job| job.scale_set == Some(id) && job.started_at.is_none();
        for job in self.jobs.values_mut().filter(of) {
            job.scale_set = None;
            job.assigned = false;
        }
    }

    /// Ends the session of this id, whichever queue has it.
    pub(crate) fn end_session(&mut self, session: &str) {
        let own = |set: &&mut ScaleSet| set.session.as_ref().is_some_and(|s| s.id == session);
        if let Some(set) = self.scale_sets.values_mut().find(own) {
            set.session = None;
            set.capacity = 0;
        }
    }

    /// Opens the session of a queue. One that was not closed stays until it has been silent for
    /// long, whoever asks.
    pub(crate) fn open_queue(
        &mut self,
        id: u64,
        owner: &str,
        silence: Duration,
    ) -> Result<String, Refusal> {
        let set = self.scale_sets.get_mut(&id).ok_or(Refusal::NotFound)?;
        if let Some(session) = &set.session
            && session.last_seen.elapsed() < silence
        {
            return Err(Refusal::NameTaken);
        }
        let session = self.environment.rng.guid();
        set.session = Some(QueueSession {
            id: session.clone(),
            owner: owner.to_owned(),
            last_seen: Instant::now(),
        });
        Ok(session)
    }

    /// A new token for the queue of a session, if that is the set's.
    pub(crate) fn queue_token(&mut self, id: u64, session: &str, life: Duration) -> Option<String> {
        self.touch(id, session)?;
        let purpose = Purpose::Queue(id, session.to_owned());
        Some(self.issue(purpose, life).0)
    }

    pub(crate) fn close_queue(&mut self, id: u64, session: &str) -> Option<()> {
        let set = self.touch(id, session)?;
        set.session = None;
        set.capacity = 0;
        Some(())
    }

    /// The scale set of a session, which was heard of just now.
    fn touch(&mut self, id: u64, session: &str) -> Option<&mut ScaleSet> {
        let set = self.scale_sets.get_mut(&id)?;
        let own = set.session.as_mut().filter(|own| own.id == session)?;
        own.last_seen = Instant::now();
        Some(set)
    }

    /// The listener says how many jobs may be assigned.
    pub(crate) fn advertise(&mut self, id: u64, session: &str, capacity: usize) -> Option<()> {
        self.touch(id, session)?.capacity = capacity;
        Some(())
    }

    /// The first message after `last`, made of what is pending where there is none. `Err` when
    /// the session is gone.
    pub(crate) fn message(
        &mut self,
        id: u64,
        session: &str,
        last: u64,
    ) -> Result<Option<Value>, ()> {
        let statistics = self.statistics(id);
        let set = self.touch(id, session).ok_or(())?;
        let old = set.messages.iter().find(|(number, _)| *number > last);
        if let Some((_, message)) = old {
            return Ok(Some(message.clone()));
        }
        if set.pending.is_empty() {
            return Ok(None);
        }
        let many = set.pending.len().min(MAX_ITEMS);
        let items: Vec<Value> = set.pending.drain(..many).collect();
        let number = set.next_message;
        set.next_message += 1;
        let message = json!({
            "messageId": number,
            "messageType": "RunnerScaleSetJobMessages",
            "body": Value::Array(items).to_string(),
            "statistics": statistics,
        });
        set.messages.push_back((number, message.clone()));
        Ok(Some(message))
    }

    /// Takes a message off the queue. False when it is gone.
    pub(crate) fn acknowledge(&mut self, id: u64, number: u64) -> bool {
        let Some(set) = self.scale_sets.get_mut(&id) else {
            return false;
        };
        let before = set.messages.len();
        set.messages.retain(|(known, _)| *known != number);
        set.messages.len() < before
    }

    /// The jobs that are offered to a scale set and not acquired yet.
    pub(crate) fn acquirable(&self, id: u64) -> Vec<Value> {
        let offered = |job: &&Job| {
            let waits = job.scale_set == Some(id) && !job.assigned;
            waits && job.status == JobStatus::Queued
        };
        let offered = self.open_jobs().filter(offered);
        offered.map(|job| item("JobAvailable", job)).collect()
    }

    /// The listener takes jobs that were offered, and hears which.
    pub(crate) fn acquire(&mut self, id: u64, requests: &[u64]) -> Vec<u64> {
        let mut got = Vec::new();
        for request in requests {
            let job = request.checked_sub(REQUESTS);
            let Some(job) = job.and_then(|id| self.jobs.get_mut(&id)) else {
                continue;
            };
            if job.scale_set == Some(id) && job.status == JobStatus::Queued {
                let news = !job.assigned;
                job.assigned = true;
                got.push(*request);
                let job = job.id;
                if news {
                    self.tell_set("JobAssigned", job);
                }
            }
        }
        got
    }

    /// Gives waiting jobs, oldest first, to scale sets that listen and have room.
    pub(crate) fn offer(&mut self, offer: JobOffer) {
        if self.scale_sets.values().all(|set| set.session.is_none()) {
            return;
        }
        let now = self.now();
        let mut taken: BTreeMap<u64, usize> = BTreeMap::new();
        for set in self.open_jobs().filter_map(|job| job.scale_set) {
            *taken.entry(set).or_default() += 1;
        }
        let mut told = Vec::new();
        for id in &self.waiting {
            let Some(job) = self.jobs.get_mut(id).filter(|job| job.scale_set.is_none()) else {
                continue;
            };
            let fits = |set: &&ScaleSet| {
                let has = |label: &String| {
                    let mut own = set.labels.iter().chain([&set.name]);
                    own.any(|own| own.eq_ignore_ascii_case(label))
                };
                set.session.is_some()
                    && set.scope.serves(&job.spec.repo)
                    && job.spec.labels.iter().all(has)
                    && taken.get(&set.id).copied().unwrap_or(0) < set.capacity
            };
            if let Some(set) = self.scale_sets.values().find(fits) {
                job.scale_set = Some(set.id);
                job.assigned = match offer {
                    JobOffer::Assigned => true,
                    JobOffer::Available => false,
                    JobOffer::Alternating => id % 2 == 0,
                };
                job.assigned_at = Some(now);
                *taken.entry(set.id).or_default() += 1;
                let kind = if job.assigned {
                    "JobAssigned"
                } else {
                    "JobAvailable"
                };
                told.push((kind, *id));
            }
        }
        for (kind, job) in told {
            self.tell_set(kind, job);
        }
    }

    /// Puts what became of a job on its scale set's queue.
    pub(super) fn tell_set(&mut self, kind: &'static str, job: u64) {
        let Some(job) = self.jobs.get(&job) else {
            return;
        };
        let item = item(kind, job);
        if let Some(set) = job.scale_set.and_then(|id| self.scale_sets.get_mut(&id)) {
            set.pending.push_back(item);
        }
    }

    pub(crate) fn statistics(&self, id: u64) -> Value {
        let jobs = || self.open_jobs().filter(|job| job.scale_set == Some(id));
        let runners = || self.runners.values().filter(|r| r.scale_set == Some(id));
        json!({
            "totalAvailableJobs": jobs().filter(|job| !job.assigned).count(),
            "totalAcquiredJobs": 0,
            "totalAssignedJobs": jobs().filter(|job| job.assigned).count(),
            "totalRunningJobs": jobs().filter(|job| job.started_at.is_some()).count(),
            "totalRegisteredRunners": runners().count(),
            "totalBusyRunners": runners().filter(|r| r.job.is_some()).count(),
            "totalIdleRunners": runners().filter(|r| r.is_free()).count(),
        })
    }

    /// Registers a just-in-time runner of a scale set.
    pub(crate) fn register_in(&mut self, id: u64, name: &str) -> Result<&Runner, Refusal> {
        let set = self.scale_sets.get(&id).ok_or(Refusal::NotFound)?;
        let new = NewRunner {
            scope: set.scope.clone(),
            name: name.to_owned(),
            labels: set.labels.clone(),
            group_id: set.group_id,
            ephemeral: true,
            jit: true,
        };
        let runner = self.register(new)?.id;
        let runner = self.runners.get_mut(&runner).ok_or(Refusal::NotFound)?;
        runner.scale_set = Some(id);
        Ok(runner)
    }
}

fn item(kind: &str, job: &Job) -> Value {
    let (owner, name) = job.spec.repo.split_once('/').unwrap_or_default();
    // The service writes "never" as the year 1.
    let time = |at: Option<Timestamp>| match at {
        Some(at) => at.to_string(),
        None => "0001-01-01T00:00:00Z".to_owned(),
    };
    let picked = job.picked_up_by();
    let result = match job.conclusion {
        Some(Conclusion::Success) => "succeeded",
        Some(Conclusion::Failure) => "failed",
        Some(Conclusion::Cancelled) => "canceled",
        None => "",
    };
    let mut item = json!({
        "messageType": kind,
        "runnerRequestId": job.id + REQUESTS,
        "repositoryName": name,
        "ownerName": owner,
        "jobId": job.id.to_string(),
        "jobWorkflowRef": format!("{}/.github/workflows/{}.yml@refs/heads/{}",
            job.spec.repo, job.spec.workflow, job.spec.branch),
        "jobDisplayName": job.spec.name,
        "workflowRunId": job.run_id(),
        "eventName": job.spec.event,
        "requestLabels": job.spec.labels,
        "queueTime": time(Some(job.queued_at)),
        "scaleSetAssignTime": time(job.assigned_at),
        "runnerAssignTime": time(job.started_at),
        "finishTime": time(job.completed_at),
    });
    match kind {
        "JobAvailable" => item["acquireJobUrl"] = json!("https://unused.example/acquire"),
        "JobStarted" | "JobCompleted" => {
            item["runnerId"] = json!(picked.map_or(0, |(id, ..)| *id));
            item["runnerName"] = json!(picked.map_or("", |(_, name, _)| name));
        }
        _ => {}
    }
    if kind == "JobCompleted" {
        item["result"] = json!(result);
    }
    item
}
