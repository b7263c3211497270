//! What the simulated GitHub remembers. No I/O here.

mod jobs;
mod runners;
mod scale_sets;
mod scope;
mod sessions;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use crate::environment::Environment;
use crate::{JobView, RunnerView, SimConfig, Snapshot};

pub(crate) use jobs::{Job, Run};
pub(crate) use runners::{NewRunner, Refusal, Runner, check_request};
pub(crate) use scale_sets::{NewScaleSet, ScaleSet};
pub(crate) use scope::Scope;
pub(crate) use sessions::{Opened, Work};
pub(crate) use tokens::{Purpose, Spent};

/// What happened.
pub(crate) enum Event {
    /// A `workflow_job` event: its action and the job as it then was.
    Job(&'static str, Box<Job>),
    /// A client deleted the registration of this name.
    RunnerDeleted(String),
}

/// Everything that the simulated GitHub remembers.
pub(crate) struct State {
    scopes: Vec<Scope>,
    groups: Vec<String>,
    runners: BTreeMap<u64, Runner>,
    jobs: BTreeMap<u64, Job>,
    /// The jobs that are not completed, and those of them that no runner has.
    open: BTreeSet<u64>,
    waiting: BTreeSet<u64>,
    /// The jobs of each workflow run.
    runs: BTreeMap<u64, Vec<u64>>,
    scale_sets: BTreeMap<u64, ScaleSet>,
    tokens: BTreeMap<String, tokens::Issued>,
    spending: BTreeMap<String, tokens::Spending>,
    next_runner: u64,
    next_scale_set: u64,
    next_job: u64,
    registrations_created: u64,
    /// Runners that register now are given no job.
    ghosts: bool,
    events: Vec<Event>,
    environment: Environment,
}

impl State {
    pub(crate) fn new(config: &SimConfig, environment: Environment) -> Self {
        let mut state = Self {
            scopes: Vec::new(),
            groups: std::iter::once("Default".to_owned())
                .chain(config.groups.iter().cloned())
                .collect(),
            runners: BTreeMap::new(),
            jobs: BTreeMap::new(),
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            runs: BTreeMap::new(),
            scale_sets: BTreeMap::new(),
            tokens: BTreeMap::new(),
            spending: BTreeMap::new(),
            next_runner: 1,
            next_scale_set: 1,
            next_job: 1_001,
            registrations_created: 0,
            ghosts: false,
            events: Vec::new(),
            environment,
        };
        for org in &config.orgs {
            state.add_scope(Scope::Org(org.clone()));
        }
        for repo in &config.repos {
            state.add_repo(repo);
        }
        for enterprise in &config.enterprises {
            state.add_scope(Scope::Enterprise(enterprise.clone()));
        }
        state
    }

    fn add_scope(&mut self, scope: Scope) {
        if self.find_scope(&scope).is_none() {
            self.scopes.push(scope);
        }
    }

    fn add_repo(&mut self, repo: &str) {
        if let Some((owner, name)) = repo.split_once('/') {
            self.add_scope(Scope::Repo(owner.to_owned(), name.to_owned()));
        }
    }

    /// The scope as it is spelt; letter case does not count.
    pub(crate) fn find_scope(&self, scope: &Scope) -> Option<Scope> {
        self.scopes.iter().find(|known| known.is(scope)).cloned()
    }

    pub(crate) fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// The names of the runner groups; their ids count from 1.
    pub(crate) fn groups(&self) -> &[String] {
        &self.groups
    }

    pub(crate) fn registrations_created(&self) -> u64 {
        self.registrations_created
    }

    fn now(&self) -> jiff::Timestamp {
        self.environment.clock.now()
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn job_views(&self) -> Vec<JobView> {
        self.jobs.values().map(Job::view).collect()
    }

    pub(crate) fn runner_views(&self) -> Vec<RunnerView> {
        self.runners.values().map(Runner::view).collect()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            jobs: self.job_views(),
            runners: self.runner_views(),
        }
    }
}
