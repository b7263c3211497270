//! Scale sets: waiting jobs are given to a set that listens, and its queue tells of them.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Hub, Job, Status};

/// What is added to a job's id to be the number of its request.
const REQUESTS: u64 = 1_000_000_000;
/// The most items in one message, as on GitHub.
const MAX_ITEMS: usize = 50;

/// A scale set with its queue.
#[derive(Debug)]
pub(crate) struct ScaleSet {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    /// The session of its listener.
    session: Option<u64>,
    /// How many jobs may be given to it in all, as its listener said last.
    capacity: usize,
    /// What the next messages tell.
    pending: VecDeque<Value>,
    /// Messages that are not acknowledged.
    messages: VecDeque<(u64, Value)>,
    last_message: u64,
    last_session: u64,
}

impl Hub {
    pub(crate) fn set(&self, id: u64) -> Option<&ScaleSet> {
        self.sets.get(&id)
    }

    pub(crate) fn set_named(&self, name: &str) -> Option<&ScaleSet> {
        self.sets.values().find(|set| set.name == name)
    }

    /// Makes a scale set; none when its name is taken.
    pub(crate) fn make_set(&mut self, name: &str, labels: Vec<String>) -> Option<u64> {
        if self.set_named(name).is_some() {
            return None;
        }
        let id = u64::try_from(self.sets.len()).unwrap_or(u64::MAX) + 1;
        let set = ScaleSet {
            id,
            name: name.to_owned(),
            labels,
            session: None,
            capacity: 0,
            pending: VecDeque::new(),
            messages: VecDeque::new(),
            last_message: 0,
            last_session: 0,
        };
        self.sets.insert(id, set);
        Some(id)
    }

    /// Opens a session. All listeners here have one owner, who takes over what it left open.
    pub(crate) fn open_session(&mut self, id: u64) -> Option<u64> {
        let set = self.sets.get_mut(&id)?;
        set.last_session += 1;
        set.session = Some(set.last_session);
        set.session
    }

    pub(crate) fn has_session(&self, id: u64, session: u64) -> bool {
        self.set(id).is_some_and(|set| set.session == Some(session))
    }

    /// Ends the session of a set, whoever has it.
    pub(crate) fn end_session(&mut self, id: u64) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.session = None;
            set.capacity = 0;
        }
    }

    /// The listener says how many jobs may be given to its set in all.
    pub(crate) fn advertise(&mut self, id: u64, capacity: usize) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.capacity = capacity;
        }
    }

    /// Whether there is a message after `last`.
    pub(crate) fn has_news(&self, id: u64, last: u64) -> bool {
        let newer = |set: &ScaleSet| set.messages.iter().any(|(number, _)| *number > last);
        self.set(id)
            .is_some_and(|set| newer(set) || !set.pending.is_empty())
    }

    /// The first message after `last`, made of what is pending where there is none.
    pub(crate) fn message(&mut self, id: u64, last: u64) -> Option<Value> {
        let statistics = self.statistics(id);
        let set = self.sets.get_mut(&id)?;
        let old = set.messages.iter().find(|(number, _)| *number > last);
        if let Some((_, message)) = old {
            return Some(message.clone());
        }
        if set.pending.is_empty() {
            return None;
        }
        let many = set.pending.len().min(MAX_ITEMS);
        let items: Vec<Value> = set.pending.drain(..many).collect();
        set.last_message += 1;
        let message = json!({
            "messageId": set.last_message,
            "messageType": "RunnerScaleSetJobMessages",
            "body": Value::Array(items).to_string(),
            "statistics": statistics,
        });
        set.messages.push_back((set.last_message, message.clone()));
        Some(message)
    }

    pub(crate) fn acknowledge(&mut self, id: u64, message: u64) {
        if let Some(set) = self.sets.get_mut(&id) {
            set.messages.retain(|(number, _)| *number != message);
        }
    }

    /// The listener takes jobs that were offered, and hears which.
    pub(crate) fn acquire(&mut self, id: u64, requests: &[u64]) -> Vec<u64> {
        let mut got = Vec::new();
        for request in requests {
            let job = request.checked_sub(REQUESTS);
            let Some(job) = job.and_then(|job| self.jobs.get_mut(&job)) else {
                continue;
            };
            if job.set == Some(id) && job.status == Status::Queued {
                let is_news = !job.assigned;
                job.assigned = true;
                got.push(*request);
                if is_news {
                    let job = job.id;
                    self.tell_set("JobAssigned", job);
                }
            }
        }
        got
    }

    /// Gives waiting jobs, oldest first, to sets that listen and have room. GitHub assigns some
    /// at once, and lets others be acquired.
    pub(crate) fn offer(&mut self) {
        let listens = |set: &&ScaleSet| set.session.is_some();
        if !self.sets.values().any(|set| listens(&set)) {
            return;
        }
        let mut told = Vec::new();
        for id in &self.queued {
            let job = &self.jobs[id];
            let fits = |set: &&ScaleSet| {
                let has = |label: &String| set.labels.iter().any(|own| own == label);
                set.session.is_some()
                    && job.labels.iter().all(has)
                    && self.given.get(&set.id).copied().unwrap_or(0) < set.capacity
            };
            if job.set.is_none()
                && let Some(set) = self.sets.values().find(fits)
            {
                *self.given.entry(set.id).or_default() += 1;
                told.push((*id, set.id));
            }
        }
        for (id, set) in told {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.set = Some(set);
                job.assigned = id % 2 == 0;
                let kind = if job.assigned {
                    "JobAssigned"
                } else {
                    "JobAvailable"
                };
                self.tell_set(kind, id);
            }
        }
    }

    /// Puts what became of a job on the queue of its set, if it has one.
    pub(super) fn tell_set(&mut self, kind: &'static str, job: u64) {
        let Some(job) = self.jobs.get(&job) else {
            return;
        };
        let item = item(kind, job);
        if let Some(set) = job.set.and_then(|id| self.sets.get_mut(&id)) {
            set.pending.push_back(item);
        }
    }

    pub(crate) fn statistics(&self, id: u64) -> Value {
        let open = self.open_runs.keys().flat_map(|run| self.of_run(*run));
        let open = open.map(|id| &self.jobs[id]);
        let own = |job: &&Job| job.set == Some(id) && job.status != Status::Completed;
        let open: Vec<&Job> = open.filter(own).collect();
        let count = |is: &dyn Fn(&Job) -> bool| open.iter().filter(|job| is(job)).count();
        let runners = || {
            self.runners
                .values()
                .filter(|runner| runner.set == Some(id))
        };
        json!({
            "totalAvailableJobs": count(&|job| !job.assigned),
            "totalAcquiredJobs": 0,
            "totalAssignedJobs": count(&|job| job.assigned),
            "totalRunningJobs": count(&|job| job.status == Status::InProgress),
            "totalRegisteredRunners": runners().count(),
            "totalBusyRunners": runners().filter(|runner| runner.job.is_some()).count(),
            "totalIdleRunners": runners().filter(|runner| runner.job.is_none()).count(),
        })
    }
}

fn item(kind: &str, job: &Job) -> Value {
    // The service writes "never" as the year 1.
    let time = |at: Option<Timestamp>| match at {
        Some(at) => at.to_string(),
        None => "0001-01-01T00:00:00Z".to_owned(),
    };
    let mut item = json!({
        "messageType": kind,
        "runnerRequestId": job.id + REQUESTS,
        "repositoryName": "app",
        "ownerName": "acme",
        "jobId": job.id.to_string(),
        "jobDisplayName": "build",
        "workflowRunId": job.run,
        "requestLabels": job.labels,
        "queueTime": time(Some(job.created_at)),
        "runnerAssignTime": time(job.started_at),
        "finishTime": time(job.completed_at),
    });
    if let Some((id, name)) = &job.runner {
        item["runnerId"] = json!(id);
        item["runnerName"] = json!(name);
    }
    if let Some(conclusion) = job.conclusion {
        item["result"] = json!(match conclusion {
            "success" => "succeeded",
            "cancelled" => "canceled",
            _ => "failed",
        });
    }
    item
}
