//! What the fleet is told.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runner_manager_core::{
    Connected, GitHubPath, GitHubRunnerConfig, Labels, NamePrefix, SupportServiceConfig,
};
use runner_manager_github::ScaleSetSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Schedule;
use crate::schedule::min_idle;
use crate::{DemandSource, ManagerServices};

/// How a runner registers with GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// With a just-in-time config: good for one runner, and for nothing else.
    #[default]
    Jit,
    /// With a registration token and `config.sh`, where just-in-time configs cannot be had.
    Token,
}

/// The machine's architecture, in the word that GitHub's own runners use as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    #[default]
    X64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// The label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::X64 => "x64",
            Self::Arm64 => "arm64",
        }
    }
}

/// The rhythm of the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetConfig {
    /// How often GitHub and the backends are asked. Default: 10 s.
    pub poll_interval: Duration,
    /// How often orphans are looked for. Default: 60 s.
    pub cleanup_interval: Duration,
    /// How long runners that are gone and jobs that are done are remembered. Default: 30 days.
    pub retention: Duration,
    /// How long a drain waits for launches and removals that are under way. Default: 30 s.
    pub drain_deadline: Duration,
    /// The seed of the runners' names and of the spread of pauses; `None`, the default, draws
    /// from the system. For simulations.
    pub seed: Option<u64>,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(10),
            cleanup_interval: Duration::from_secs(60),
            retention: Duration::from_secs(30 * 24 * 3_600),
            drain_deadline: Duration::from_secs(30),
            seed: None,
        }
    }
}

/// One pool of like runners.
#[derive(Clone)]
pub struct PoolConfig {
    /// The pool's name, unique in the fleet.
    pub name: String,
    /// The scheme of its backend, for display.
    pub backend: &'static str,
    /// Its connected backend; the backend's prefix is the pool's.
    pub manager: Connected,
    /// The scope that its runners register with.
    pub github_path: GitHubPath,
    /// The repositories, as owner and name, whose queued jobs are its demand. For a repository
    /// scope it is that repository, whatever stands here.
    pub repositories: Vec<(String, String)>,
    /// The labels of its own; `self-hosted`, `linux` and the architecture are offered too.
    pub labels: Labels,
    /// The architecture of its machines.
    pub architecture: Architecture,
    /// The services around its runners.
    pub support: SupportServiceConfig,
    /// What surrounds the runners of all pools.
    pub services: Arc<ManagerServices>,
    /// How its runners register.
    pub registration: Registration,
    /// What tells how many runners it shall hold.
    pub source: DemandSource,
    /// Of pools that fit a job equally well, the one with the higher priority takes it.
    pub priority: i32,
    /// How many idle runners wait for jobs to come.
    pub min_idle: usize,
    /// The most runners at any time, in whatever state.
    pub max: usize,
    /// How long a runner may take from its launch until GitHub shows it online.
    pub boot_deadline: Duration,
    /// How long the phases of that may take, where instances tell of them.
    pub phase_deadlines: PhaseDeadlines,
    /// How long a runner that nobody needs may stay idle.
    pub idle_timeout: Duration,
    /// How long a runner may be online and idle while a job that it matches waits, before another
    /// is launched in its place. Of a pool with a planner nothing is known of jobs that wait.
    pub suspect_after: Duration,
    /// How old an orphan must be before it is removed.
    pub grace: Duration,
    /// How many launches go on at once.
    pub max_concurrent_launches: usize,
    /// What else decides how many runners wait, and which.
    pub sizing: Sizing,
}

/// How long the phases of a boot may take, as an instance tells of them by the callback. One of an
/// earlier run of the manager is held to them from its next word on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PhaseDeadlines {
    /// From the launch until it has booted. Default: none but the whole.
    pub boot: Option<Duration>,
    /// From then until it starts the runner program. Default: none but the whole.
    pub install: Option<Duration>,
}

/// What decides how many runners wait, and which, beside min idle and the time-out.
#[derive(Debug, Clone)]
pub struct Sizing {
    /// Times with another `min_idle`; of those that are active the highest counts.
    pub schedules: Vec<Schedule>,
    /// The age at which an idle runner is replaced. Default: none.
    pub max_idle_age: Option<Duration>,
    /// What runners are made from: idle runners of another revision are replaced.
    pub revision: String,
    /// How many idle runners are replaced at a time; the next follow when their successors are
    /// online. Default: 1.
    pub replace_at_once: usize,
}

impl Default for Sizing {
    fn default() -> Self {
        Self {
            schedules: Vec::new(),
            max_idle_age: None,
            revision: String::new(),
            replace_at_once: 1,
        }
    }
}

impl PoolConfig {
    /// A pool of what has to be told: at most `max` runners of these labels, for the queue of
    /// their scope. The rest is usual: X64, registered just in time, none idle without a job, ten
    /// minutes to boot and to wait, five minutes of grace, 64 launches at once.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        backend: &'static str,
        manager: Connected,
        github_path: GitHubPath,
        labels: Labels,
        max: usize,
    ) -> Self {
        Self {
            name: name.into(),
            backend,
            manager,
            github_path,
            repositories: Vec::new(),
            labels,
            architecture: Architecture::X64,
            support: SupportServiceConfig::default(),
            services: Arc::default(),
            registration: Registration::Jit,
            source: DemandSource::Queue,
            priority: 0,
            min_idle: 0,
            max,
            boot_deadline: Duration::from_secs(600),
            phase_deadlines: PhaseDeadlines::default(),
            idle_timeout: Duration::from_secs(600),
            suspect_after: Duration::from_secs(120),
            grace: Duration::from_secs(300),
            max_concurrent_launches: 64,
            sizing: Sizing::default(),
        }
    }

    /// The prefix of its runners' names.
    #[must_use]
    pub fn prefix(&self) -> &NamePrefix {
        self.manager.name_prefix()
    }

    /// How many runners wait for jobs at this time.
    pub(crate) fn min_idle_at(&self, now: Timestamp) -> usize {
        min_idle(&self.sizing.schedules, now, self.min_idle).min(self.max)
    }

    /// Its scale set, if GitHub assigns jobs to one.
    #[must_use]
    pub fn scale_set(&self) -> Option<ScaleSetSpec> {
        match &self.source {
            DemandSource::ScaleSet(set) => Some(ScaleSetSpec {
                name: set.name.clone(),
                labels: self.labels.clone(),
            }),
            DemandSource::Queue | DemandSource::Planner(_) => None,
        }
    }

    /// What its runners register as: the scope, with every label that they offer.
    #[must_use]
    pub fn runner_config(&self) -> GitHubRunnerConfig {
        GitHubRunnerConfig {
            github_path: self.github_path.clone(),
            labels: crate::offered_labels(&self.labels, self.architecture),
        }
    }

    /// The repositories whose queued jobs may be for this pool.
    #[must_use]
    pub fn watched_repositories(&self) -> Vec<(String, String)> {
        match &self.github_path {
            GitHubPath::Repository { owner, repo } => vec![(owner.clone(), repo.clone())],
            GitHubPath::Organization { .. } | GitHubPath::Enterprise { .. } => {
                self.repositories.clone()
            }
        }
    }
}
