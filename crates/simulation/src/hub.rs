//! The simulated GitHub's state: runners and jobs. No chance and no time of its own.

mod scale_sets;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
pub(crate) use scale_sets::ScaleSet;

/// A registration.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) online: bool,
    pub(crate) job: Option<u64>,
    /// Its scale set, which alone gives it jobs.
    pub(crate) set: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Queued,
    InProgress,
    Completed,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }
}

/// A job.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) run: u64,
    pub(crate) labels: Vec<String>,
    pub(crate) status: Status,
    pub(crate) conclusion: Option<&'static str>,
    pub(crate) runner: Option<(u64, String)>,
    /// The scale set that it is given to, and whether for good.
    pub(crate) set: Option<u64>,
    pub(crate) assigned: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) completed_at: Option<Timestamp>,
}

/// Why GitHub refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NameTaken,
    Busy,
    NotFound,
}

#[derive(Debug, Default)]
pub(crate) struct Hub {
    pub(crate) runners: BTreeMap<u64, Registration>,
    by_name: BTreeMap<String, u64>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    pub(crate) queued: BTreeSet<u64>,
    /// Runs with unfinished jobs, and how many of them wait and run.
    pub(crate) open_runs: BTreeMap<u64, (usize, usize)>,
    /// The jobs of each run.
    runs: BTreeMap<u64, Vec<u64>>,
    idle: BTreeSet<u64>,
    sets: BTreeMap<u64, ScaleSet>,
    /// How many unfinished jobs each scale set has.
    given: BTreeMap<u64, usize>,
    next_id: u64,
}

impl Hub {
    pub(crate) fn register(&mut self, name: &str, labels: Vec<String>) -> Result<u64, Refusal> {
        if self.by_name.contains_key(name) {
            return Err(Refusal::NameTaken);
        }
        self.next_id += 1;
        let id = self.next_id;
        self.by_name.insert(name.to_owned(), id);
        let registration = Registration {
            id,
            name: name.to_owned(),
            labels,
            online: false,
            job: None,
            set: None,
        };
        self.runners.insert(id, registration);
        Ok(id)
    }

    /// The same in a scale set.
    pub(crate) fn register_in(&mut self, set: u64, name: &str) -> Result<&Registration, Refusal> {
        let labels = self.set(set).ok_or(Refusal::NotFound)?.labels.clone();
        let id = self.register(name, labels)?;
        let runner = self.runners.get_mut(&id).ok_or(Refusal::NotFound)?;
        runner.set = Some(set);
        Ok(runner)
    }

    pub(crate) fn delete(&mut self, id: u64) -> Result<String, Refusal> {
        let runner = self.runners.get(&id).ok_or(Refusal::NotFound)?;
        if runner.job.is_some() {
            return Err(Refusal::Busy);
        }
        let name = runner.name.clone();
        self.drop_runner(id);
        Ok(name)
    }

    fn drop_runner(&mut self, id: u64) {
        if let Some(runner) = self.runners.remove(&id) {
            self.by_name.remove(&runner.name);
        }
        self.idle.remove(&id);
    }

    /// A listener connects; false when its registration is gone.
    pub(crate) fn connect(&mut self, id: u64) -> bool {
        let Some(runner) = self.runners.get_mut(&id) else {
            return false;
        };
        runner.online = true;
        self.idle.insert(id);
        true
    }

    /// A listener is gone: no job goes to it any more, although it still shows as online.
    pub(crate) fn silence(&mut self, id: u64) {
        self.idle.remove(&id);
    }

    /// GitHub notices that a listener is gone; its job is lost.
    pub(crate) fn notice(&mut self, id: u64, now: Timestamp) -> Option<u64> {
        let runner = self.runners.get_mut(&id)?;
        runner.online = false;
        let job = runner.job.take()?;
        self.complete(job, "failure", now);
        Some(job)
    }

    pub(crate) fn queue(&mut self, run: u64, labels: Vec<String>, now: Timestamp) -> u64 {
        let id = u64::try_from(self.jobs.len()).unwrap_or(u64::MAX) + 1;
        let job = Job {
            id,
            run,
            labels,
            status: Status::Queued,
            conclusion: None,
            runner: None,
            set: None,
            assigned: false,
            created_at: now,
            started_at: None,
            completed_at: None,
        };
        self.jobs.insert(id, job);
        self.queued.insert(id);
        self.open_runs.entry(run).or_default().0 += 1;
        self.runs.entry(run).or_default().push(id);
        id
    }

    /// The next job that a runner can take, with the runners that can.
    pub(crate) fn next_match(&self) -> Option<(u64, Vec<u64>)> {
        if self.idle.is_empty() {
            return None;
        }
        self.queued.iter().find_map(|id| {
            let job = &self.jobs[id];
            let fits = |runner: &&u64| {
                let runner = &self.runners[*runner];
                let offers = |l: &String| runner.labels.iter().any(|o| o.eq_ignore_ascii_case(l));
                runner.set == job.set
                    && (job.assigned || job.set.is_none())
                    && job.labels.iter().all(offers)
            };
            let fitting: Vec<u64> = self.idle.iter().filter(fits).copied().collect();
            (!fitting.is_empty()).then_some((*id, fitting))
        })
    }

    pub(crate) fn assign(&mut self, job: u64, runner: u64, now: Timestamp) {
        self.idle.remove(&runner);
        self.queued.remove(&job);
        let (Some(job), Some(runner)) = (self.jobs.get_mut(&job), self.runners.get_mut(&runner))
        else {
            return;
        };
        runner.job = Some(job.id);
        job.runner = Some((runner.id, runner.name.clone()));
        job.status = Status::InProgress;
        job.started_at = Some(now);
        let run = self.open_runs.entry(job.run).or_default();
        run.0 -= 1;
        run.1 += 1;
        let job = job.id;
        self.tell_set("JobStarted", job);
    }

    /// A job ends; its ephemeral runner, if it has one, goes with it.
    pub(crate) fn finish(&mut self, id: u64, conclusion: &'static str, now: Timestamp) {
        let runner = self.jobs.get(&id).and_then(|job| job.runner.clone());
        self.complete(id, conclusion, now);
        if let Some((runner, _)) = runner {
            self.drop_runner(runner);
        }
    }

    fn complete(&mut self, id: u64, conclusion: &'static str, now: Timestamp) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let run = self.open_runs.entry(job.run).or_default();
        match job.status {
            Status::Queued => run.0 -= 1,
            Status::InProgress => run.1 -= 1,
            Status::Completed => return,
        }
        if *run == (0, 0) {
            self.open_runs.remove(&job.run);
        }
        self.queued.remove(&id);
        job.status = Status::Completed;
        job.conclusion = Some(conclusion);
        job.completed_at = Some(now);
        if let Some(given) = job.set.and_then(|set| self.given.get_mut(&set)) {
            *given -= 1;
        }
        self.tell_set("JobCompleted", id);
    }

    /// The jobs of a run, finished ones too.
    pub(crate) fn of_run(&self, run: u64) -> &[u64] {
        self.runs.get(&run).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn named(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).copied()
    }
}
