//! The section of a pool, and the pool of the fleet that is made from it.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{
    BackendContext, Budgets, Error, GitHubPath, Labels, NamePrefix, Result, SecretSource,
    SystemClock, Timings,
};
use runner_manager_fleet::{
    Architecture, DemandSource, PhaseDeadlines, PlannerConfig, PoolConfig, Registration,
    ScaleSetConfig, Schedule, Sizing,
};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use super::sections::Sections;
use super::{Config, five_minutes, is_local, wrong};
use crate::backends;
use crate::services::Services;

// `remote` derives a function in place of the trait, which `sections` implements by it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub(crate) struct Pool {
    pub(crate) name: String,
    #[schemars(with = "Option<String>")]
    prefix: Option<NamePrefix>,
    pub(super) backend: String,
    github_path: String,
    runner_group: Option<String>,
    #[serde(default)]
    repositories: Vec<String>,
    #[schemars(with = "Vec<String>")]
    pub(crate) labels: Labels,
    #[serde(default)]
    pub(crate) architecture: Architecture,
    #[serde(default)]
    pub(crate) registration: Registration,
    #[serde(default)]
    priority: i32,
    pub(super) scale_set: Option<ScaleSet>,
    planner: Option<Planner>,
    #[serde(default)]
    pub(crate) services: Services,
    #[serde(default)]
    min_idle: usize,
    max: usize,
    #[serde(default = "ten_minutes")]
    boot_deadline_seconds: u64,
    booted_within_seconds: Option<u64>,
    installed_within_seconds: Option<u64>,
    #[serde(default = "ten_minutes")]
    idle_timeout_seconds: u64,
    #[serde(default = "two_minutes")]
    suspect_after_seconds: NonZero<u64>,
    #[serde(default = "five_minutes")]
    grace_seconds: u64,
    #[serde(default = "sixty_four")]
    max_concurrent_launches: usize,
    max_idle_age_seconds: Option<u64>,
    #[serde(default = "one")]
    replace_at_once: usize,
    #[serde(rename = "schedule", default)]
    schedules: Vec<ScheduleSection>,
    /// The sections of backends.
    #[serde(skip)]
    pub(super) sections: Sections,
}

/// A time with another number of waiting runners.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ScheduleSection {
    cron: String,
    #[serde(default = "utc")]
    time_zone: String,
    minutes: u64,
    min_idle: usize,
}

impl ScheduleSection {
    fn schedule(&self) -> Result<Schedule> {
        let lasts = Duration::from_secs(self.minutes.saturating_mul(60));
        Schedule::new(&self.cron, &self.time_zone, lasts, self.min_idle)
    }
}

fn utc() -> String {
    "UTC".into()
}

fn one() -> usize {
    1
}

/// The runner scale set whose jobs are a pool's demand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScaleSet {
    name: Option<String>,
}

/// A planner whose pressure is a pool's demand.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Planner {
    #[schemars(with = "String")]
    url: Url,
    flavor: String,
    token_file: PathBuf,
}

impl Planner {
    fn check(&self) -> Result<()> {
        if self.url.scheme() != "https" && !is_local(&self.url) {
            return Err(wrong(
                "`planner.url` is not https, and would show the token to the network",
            ));
        }
        Ok(())
    }

    fn read(&self) -> Result<PlannerConfig> {
        let token = SecretSource::File(self.token_file.clone()).read()?;
        Ok(PlannerConfig::new(
            self.url.clone(),
            self.flavor.as_str(),
            token,
        ))
    }
}

fn sixty_four() -> usize {
    64
}

fn two_minutes() -> NonZero<u64> {
    NonZero::<u64>::MIN.saturating_add(119)
}

fn ten_minutes() -> u64 {
    600
}

impl Pool {
    /// What can be checked of one pool without its cloud.
    pub(super) fn check(&self, has_callback: bool) -> Result<()> {
        let named = |e: Error| e.with_context("pool", &self.name);
        let at = |message: &str| Err(named(wrong(message)));
        if self.name.is_empty() || self.name.chars().any(char::is_control) {
            return at("a pool needs a name, without control characters");
        }
        self.prefix()?;
        if self.min_idle > self.max {
            return at("`min_idle` is above `max`; lower it, or raise `max`");
        }
        if self.max_concurrent_launches == 0 {
            return at("`max_concurrent_launches` must be at least 1");
        }
        let phases = [self.booted_within_seconds, self.installed_within_seconds];
        if !has_callback && phases.iter().any(Option::is_some) {
            return at(
                "instances tell how far they are by the callback only; add the section `[callback]`, or leave `booted_within_seconds` and `installed_within_seconds` out",
            );
        }
        self.github_path()?;
        self.sizing()?;
        if self.schedules.iter().any(|s| s.min_idle > self.max) {
            return at("a schedule's `min_idle` is above `max`; lower it, or raise `max`");
        }
        self.repositories()?;
        self.check_source().map_err(named)?;
        if let Some(planner) = &self.planner {
            planner.check().map_err(named)?;
        }
        self.services.check().map_err(named)?;
        backends::find(&self.backend).map_err(named)?;
        let mut others = self.sections.keys().filter(|s| **s != self.backend);
        if let Some(other) = others.next() {
            let message = format!(
                "`[pool.{other}]` is not read by the backend `{}`; remove it",
                self.backend
            );
            return at(&message);
        }
        Ok(())
    }

    pub(crate) fn prefix(&self) -> Result<NamePrefix> {
        match &self.prefix {
            Some(prefix) => Ok(prefix.clone()),
            None => NamePrefix::new(self.name.clone()).map_err(|e| {
                wrong("the pool's name is no prefix; set `prefix`")
                    .with_context("pool", &self.name)
                    .with_source(e)
            }),
        }
    }

    /// The pool as `pools list` shows it without a manager.
    pub(crate) fn summary(&self) -> serde_json::Value {
        serde_json::json!({
            "pool": self.name,
            "backend": self.backend,
            "github_path": self.github_path,
            "min_idle": self.min_idle,
            "max": self.max,
        })
    }

    pub(crate) fn github_path(&self) -> Result<GitHubPath> {
        GitHubPath::parse(&self.github_path, self.runner_group.as_deref())
            .map_err(|e| wrong(e.to_string()).with_context("pool", &self.name))
    }

    /// Whether its runners register with just-in-time configs of the REST API.
    pub(crate) fn needs_jit(&self) -> bool {
        self.scale_set.is_none() && self.registration == Registration::Jit
    }

    /// The repositories whose jobs it looks for: none where others tell of them.
    pub(crate) fn watched_repositories(&self) -> Result<Vec<(String, String)>> {
        if self.scale_set.is_some() {
            return Ok(Vec::new());
        }
        match self.github_path()? {
            GitHubPath::Repository { owner, repo } => Ok(vec![(owner, repo)]),
            _ => self.repositories(),
        }
    }

    fn sizing(&self) -> Result<Sizing> {
        let schedules = self.schedules.iter().map(ScheduleSection::schedule);
        let schedules = schedules.collect::<Result<_>>();
        Ok(Sizing {
            schedules: schedules.map_err(|e| e.with_context("pool", &self.name))?,
            max_idle_age: self.max_idle_age_seconds.map(Duration::from_secs),
            replace_at_once: self.replace_at_once,
            ..Sizing::default()
        })
    }

    fn repositories(&self) -> Result<Vec<(String, String)>> {
        let split = |name: &String| match GitHubPath::parse(name, None) {
            Ok(GitHubPath::Repository { owner, repo }) => Ok((owner, repo)),
            _ => Err(wrong(format!(
                "`repositories` holds {name:?}, which is not `OWNER/REPO`"
            ))
            .with_context("pool", &self.name)),
        };
        self.repositories.iter().map(split).collect()
    }

    fn check_source(&self) -> Result<()> {
        if self.scale_set.is_none() {
            return Ok(());
        }
        if self.planner.is_some() {
            return Err(wrong(
                "a pool follows a scale set or a planner; give one of `scale_set` and `planner`",
            ));
        }
        if self.registration == Registration::Token {
            return Err(wrong(
                "runners of a scale set register just in time; leave out `registration`",
            ));
        }
        if !self.repositories.is_empty() {
            return Err(wrong(
                "GitHub assigns the jobs of a scale set; leave out `repositories`, and give its runner group access to them",
            ));
        }
        Ok(())
    }

    fn source(&self) -> Result<DemandSource> {
        if let Some(planner) = &self.planner {
            return planner.read().map(DemandSource::Planner);
        }
        let Some(set) = &self.scale_set else {
            return Ok(DemandSource::Queue);
        };
        Ok(DemandSource::ScaleSet(ScaleSetConfig {
            name: set.name.clone().unwrap_or_else(|| self.name.clone()),
            owner: format!("{}/{}", host_name(), self.prefix()?),
        }))
    }

    /// Whether its backend boots instances by cloud-init: its section then has the key `boot`.
    pub(crate) fn boots(&self) -> bool {
        let backend = backends::find(&self.backend);
        backend.is_ok_and(|backend| {
            let schema = (backend.schema)().to_value();
            schema["properties"].get("boot").is_some()
        })
    }

    /// The section of its backend.
    pub(crate) fn section(&self) -> Result<serde_json::Value> {
        let section = self.sections.get(&self.backend).cloned();
        serde_json::to_value(section.unwrap_or_default())
            .map_err(|e| wrong("cannot read the backend's section").with_source(e))
    }

    pub(super) async fn connect(&self, whole: &Config, budgets: &Budgets) -> Result<PoolConfig> {
        let backend = backends::find(&self.backend)?;
        let timings = Timings {
            grace: Duration::from_secs(self.grace_seconds),
            ..Timings::default()
        };
        let context = BackendContext {
            prefix: self.prefix()?,
            timings: timings.clone(),
            clock: Arc::new(SystemClock),
            budgets: budgets.clone(),
        };
        let manager = (backend.connect)(context, self.section()?).await?;
        self.services.fit(backend.scheme, manager.capability())?;
        Ok(PoolConfig {
            name: self.name.clone(),
            backend: backend.scheme,
            manager,
            github_path: self.github_path()?,
            repositories: self.repositories()?,
            labels: self.labels.clone(),
            architecture: self.architecture,
            support: self.services.support()?,
            services: self
                .services
                .of_manager(whole.callback.as_ref(), whole.events.as_ref())?,
            registration: self.registration,
            source: self.source()?,
            priority: self.priority,
            min_idle: self.min_idle,
            max: self.max,
            boot_deadline: Duration::from_secs(self.boot_deadline_seconds),
            phase_deadlines: PhaseDeadlines {
                boot: self.booted_within_seconds.map(Duration::from_secs),
                install: self.installed_within_seconds.map(Duration::from_secs),
            },
            idle_timeout: Duration::from_secs(self.idle_timeout_seconds),
            suspect_after: Duration::from_secs(self.suspect_after_seconds.get()),
            grace: timings.grace,
            max_concurrent_launches: self.max_concurrent_launches,
            sizing: self.sizing()?,
        })
    }
}

/// This machine's name: what tells two managers apart that listen to one scale set.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    let name = name.unwrap_or_default().trim().to_owned();
    if name.is_empty() {
        "runner-manager".into()
    } else {
        name
    }
}
