//! The configuration file.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{
    BackendContext, Budgets, Connected, Error, ErrorKind, GitHubPath, Labels, NamePrefix, Result,
    Secret, SecretSource, SystemClock, Timings,
};
use runner_manager_fleet::{
    Architecture, DemandSource, FleetConfig, PhaseDeadlines, PlannerConfig, PoolConfig,
    Registration, ScaleSetConfig, Schedule, Sizing,
};
use runner_manager_github::{AppKey, Auth, GitHub, GitHubConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use url::{Host, Url};

use crate::backends;
use crate::services::{Callback, EventsSection, Services, check_events};

/// The whole file. `docs/configuration.md` describes every key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) manager: Manager,
    pub(crate) github: GitHubSection,
    webhook: Option<Webhook>,
    pub(crate) callback: Option<Callback>,
    events: Option<EventsSection>,
    #[serde(rename = "pool", default)]
    pub(crate) pools: Vec<Pool>,
    /// The text that was read, to point at lines.
    #[serde(skip)]
    text: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manager {
    pub(crate) state_dir: PathBuf,
    #[serde(default = "ten_seconds")]
    poll_interval_ms: u64,
    #[serde(default = "one_minute")]
    cleanup_interval_seconds: u64,
    #[serde(default = "thirty")]
    history_days: u64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GitHubSection {
    #[serde(default = "github_com")]
    #[schemars(with = "String")]
    url: Url,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    app_id: Option<String>,
    app_installation_id: Option<u64>,
    app_key_file: Option<PathBuf>,
    #[serde(default, rename = "app")]
    apps: Vec<AppSection>,
    ca_bundle: Option<PathBuf>,
    #[schemars(with = "Option<String>")]
    proxy: Option<Url>,
}

/// One of several GitHub Apps that share the work.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AppSection {
    app_id: String,
    app_key_file: PathBuf,
    app_installation_id: Option<u64>,
}

impl AppSection {
    fn read(&self) -> Result<AppKey> {
        Ok(AppKey {
            app_id: self.app_id.clone(),
            installation_id: self.app_installation_id,
            private_key: SecretSource::File(self.app_key_file.clone()).read()?,
        })
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Webhook {
    #[serde(default = "loopback")]
    listen: SocketAddr,
    secret_file: PathBuf,
    previous_secret_file: Option<PathBuf>,
    #[schemars(with = "Option<String>")]
    url: Option<Url>,
    #[serde(default = "five_minutes")]
    redelivery_interval_seconds: u64,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    pub(crate) name: String,
    #[schemars(with = "Option<String>")]
    prefix: Option<NamePrefix>,
    backend: String,
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
    scale_set: Option<ScaleSet>,
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
    #[serde(default = "five_minutes")]
    grace_seconds: u64,
    #[serde(default = "eight")]
    max_concurrent_launches: usize,
    max_idle_age_seconds: Option<u64>,
    #[serde(default = "one")]
    replace_at_once: usize,
    #[serde(rename = "schedule", default)]
    schedules: Vec<ScheduleSection>,
    // The sections of the backends, whose schemas take their places in that of the file.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    ec2: Option<toml::Table>,
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    external: Option<toml::Table>,
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    libvirt: Option<toml::Table>,
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    lxd: Option<toml::Table>,
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    openstack: Option<toml::Table>,
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    process: Option<toml::Table>,
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
struct ScaleSet {
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
        Ok(PlannerConfig {
            url: self.url.clone(),
            flavor: self.flavor.clone(),
            token: SecretSource::File(self.token_file.clone()).read()?,
            retry: PlannerConfig::RETRY,
        })
    }
}

/// Whether an address is plain HTTP that does not leave this machine.
pub(crate) fn is_local(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    loopback && url.scheme() == "http"
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8471))
}

fn ten_seconds() -> u64 {
    10_000
}

fn one_minute() -> u64 {
    60
}

fn thirty() -> u64 {
    30
}

fn eight() -> usize {
    8
}

fn five_minutes() -> u64 {
    300
}

fn ten_minutes() -> u64 {
    600
}

#[expect(clippy::expect_used, reason = "a constant that a test parses")]
fn github_com() -> Url {
    Url::parse("https://github.com").expect("a valid URL")
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

impl Config {
    /// Reads and checks the file; the error names line and key.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            wrong("cannot read the configuration")
                .with_context("file", path.display())
                .with_source(e)
        })?;
        let config = Self::parse(&text).map_err(|e| e.with_context("file", path.display()))?;
        Ok(config)
    }

    fn parse(text: &str) -> Result<Self> {
        // The message of the TOML library shows the line and points at the key.
        let mut config: Self = toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end()))?;
        text.clone_into(&mut config.text);
        if let Some(url) = config.webhook_url()
            && url.scheme() != "https"
            && !is_local(&url)
        {
            return Err(wrong(
                "`webhook.url` is not https; GitHub would send what jobs do over an open line",
            ));
        }
        let (mut names, mut prefixes) = (HashSet::new(), HashSet::new());
        for pool in &config.pools {
            let at = |message: &str| wrong(message).with_context("pool", &pool.name);
            if pool.name.is_empty() || pool.name.chars().any(char::is_control) {
                return Err(at("a pool needs a name, without control characters"));
            }
            if !names.insert(&pool.name) {
                return Err(at("two pools have this name; rename one"));
            }
            if !prefixes.insert(pool.prefix()?) {
                return Err(at(
                    "two pools have this prefix; a prefix marks what is a pool's own",
                ));
            }
            if pool.min_idle > pool.max {
                return Err(at("`min_idle` is above `max`; lower it, or raise `max`"));
            }
            if pool.max_concurrent_launches == 0 {
                return Err(at("`max_concurrent_launches` must be at least 1"));
            }
            if config.callback.is_none()
                && (pool.booted_within_seconds.is_some() || pool.installed_within_seconds.is_some())
            {
                return Err(at(
                    "instances tell how far they are by the callback only; add the section `[callback]`, or leave `booted_within_seconds` and `installed_within_seconds` out",
                ));
            }
            pool.github_path()?;
            pool.sizing()?;
            for schedule in &pool.schedules {
                if schedule.min_idle > pool.max {
                    return Err(at(
                        "a schedule's `min_idle` is above `max`; lower it, or raise `max`",
                    ));
                }
            }
            pool.repositories()?;
            pool.check_source()
                .map_err(|e| e.with_context("pool", &pool.name))?;
            if let Some(planner) = &pool.planner {
                planner
                    .check()
                    .map_err(|e| e.with_context("pool", &pool.name))?;
            }
            let named = |e: Error| e.with_context("pool", &pool.name);
            pool.services.check().map_err(named)?;
            backends::find(&pool.backend).map_err(named)?;
        }
        check_events(config.events.as_ref())?;
        Ok(config)
    }

    pub(crate) fn rhythm(&self) -> FleetConfig {
        FleetConfig {
            poll_interval: Duration::from_millis(self.manager.poll_interval_ms.max(100)),
            retention: Duration::from_secs(self.manager.history_days.saturating_mul(24 * 3_600)),
            cleanup_interval: Duration::from_secs(self.manager.cleanup_interval_seconds.max(1)),
            ..FleetConfig::default()
        }
    }

    pub(crate) fn github(&self) -> Result<GitHub> {
        let section = &self.github;
        let auth = match section {
            GitHubSection {
                token_file: Some(file),
                token_env: None,
                app_id: None,
                apps,
                ..
            } if apps.is_empty() => Auth::Token(SecretSource::File(file.clone()).read()?),
            GitHubSection {
                token_file: None,
                token_env: Some(name),
                app_id: None,
                apps,
                ..
            } if apps.is_empty() => Auth::Token(SecretSource::Environment(name.clone()).read()?),
            GitHubSection {
                token_file: None,
                token_env: None,
                app_id: Some(app_id),
                app_key_file: Some(key),
                apps,
                ..
            } if apps.is_empty() => Auth::App {
                app_id: app_id.clone(),
                installation_id: section.app_installation_id,
                private_key: SecretSource::File(key.clone()).read()?,
            },
            GitHubSection {
                token_file: None,
                token_env: None,
                app_id: None,
                apps,
                ..
            } if !apps.is_empty() => {
                Auth::Apps(apps.iter().map(AppSection::read).collect::<Result<_>>()?)
            }
            _ => {
                return Err(wrong(
                    "give exactly one of `token_file`, `token_env`, `app_id` with `app_key_file`, or one `[[github.app]]` and more",
                )
                .with_context("key", "github"));
            }
        };
        let mut config = GitHubConfig::new(section.url.clone(), auth);
        config.ca_bundle.clone_from(&section.ca_bundle);
        config.proxy.clone_from(&section.proxy);
        GitHub::new(config)
    }

    /// Where to listen for webhooks, and the secrets that sign them.
    pub(crate) fn webhook(&self) -> Result<Option<(SocketAddr, Vec<Secret>)>> {
        let Some(section) = &self.webhook else {
            return Ok(None);
        };
        let files = [
            Some(&section.secret_file),
            section.previous_secret_file.as_ref(),
        ];
        let read = |file: &PathBuf| {
            let secret = SecretSource::File(file.clone()).read()?;
            if secret.expose().len() < 16 {
                let message = "a webhook's secret must have at least 16 characters";
                return Err(wrong(message).with_context("file", file.display()));
            }
            Ok(secret)
        };
        let secrets = files.into_iter().flatten().map(read);
        Ok(Some((section.listen, secrets.collect::<Result<_>>()?)))
    }

    /// Where GitHub reaches the manager, if that is told.
    pub(crate) fn webhook_url(&self) -> Option<Url> {
        self.webhook.as_ref()?.url.clone()
    }

    /// How often GitHub is asked for deliveries that failed.
    pub(crate) fn redelivery_interval(&self) -> Duration {
        let section = self.webhook.as_ref();
        let seconds = section.map_or(300, |webhook| webhook.redelivery_interval_seconds);
        Duration::from_secs(seconds.max(1))
    }

    /// The scopes whose webhooks tell of jobs: those of pools that follow the queue.
    pub(crate) fn webhook_scopes(&self) -> Result<Vec<GitHubPath>> {
        let mut scopes: Vec<GitHubPath> = Vec::new();
        for pool in self.pools.iter().filter(|pool| pool.scale_set.is_none()) {
            let scope = pool.github_path()?;
            if !scopes
                .iter()
                .any(|known| known.api_path() == scope.api_path())
            {
                scopes.push(scope);
            }
        }
        Ok(scopes)
    }

    /// The web address of GitHub.
    pub(crate) fn github_url(&self) -> Url {
        self.github.url.clone()
    }

    /// Connects the backend of the pool with this prefix.
    pub(crate) async fn connect_one(
        &self,
        prefix: &NamePrefix,
        budgets: &Budgets,
    ) -> Result<Connected> {
        for pool in &self.pools {
            if pool.prefix()? == *prefix {
                return Ok(pool.connect(self, budgets).await?.manager);
            }
        }
        let message = "no pool has this prefix; `pools list` shows the pools";
        Err(Error::new(ErrorKind::NotFound, message).with_context("prefix", prefix))
    }

    /// Connects the backend of every pool. Pools of one API account share its budget.
    pub(crate) async fn connect(&self, budgets: &Budgets) -> Result<Vec<PoolConfig>> {
        let mut pools = Vec::new();
        for (index, pool) in self.pools.iter().enumerate() {
            let at = |error: Error| {
                let key = error.context("key").unwrap_or_default();
                let line = line_of(&self.text, index, &pool.backend, key);
                let error = error.with_context("pool", &pool.name);
                match line {
                    Some(line) => error.with_context("line", line),
                    None => error,
                }
            };
            let mut connected = pool.connect(self, budgets).await.map_err(at)?;
            connected.sizing.revision = revision(&self.text, index, &pool.backend);
            pools.push(connected);
        }
        Ok(pools)
    }
}

impl Pool {
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
        let section = match self.backend.as_str() {
            "ec2" => &self.ec2,
            "external" => &self.external,
            "libvirt" => &self.libvirt,
            "lxd" => &self.lxd,
            "openstack" => &self.openstack,
            _ => &self.process,
        };
        serde_json::to_value(section.clone().unwrap_or_default())
            .map_err(|e| wrong("cannot read the backend's section").with_source(e))
    }

    async fn connect(&self, whole: &Config, budgets: &Budgets) -> Result<PoolConfig> {
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

/// Another text when what a pool's runners are made from changes: the backend's section, the
/// labels, the way to register. 32 bits are enough to tell one from the next.
fn revision(text: &str, pool: usize, scheme: &str) -> String {
    let file: toml::Table = toml::from_str(text).unwrap_or_default();
    let pool = file.get("pool").and_then(|pools| pools.get(pool));
    let keys = [
        scheme,
        "labels",
        "architecture",
        "github_path",
        "registration",
    ];
    let made_from = keys.map(|key| pool.and_then(|pool| pool.get(key)).map(ToString::to_string));
    // FNV-1a: the same on every machine and in every release.
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = format!("{made_from:?}").bytes().fold(0x811c_9dc5, step);
    format!("{hash:08x}")
}

/// The line of a key in a backend's section, or of the section where it has no such key.
fn line_of(text: &str, pool: usize, scheme: &str, key: &str) -> Option<usize> {
    let document = toml_edit::Document::parse(text).ok()?;
    let pool = document.get("pool")?.as_array_of_tables()?.get(pool)?;
    // What backends name stands in their own sections.
    let (mut item, key) = match key.strip_prefix("services.") {
        Some(inner) => (pool.get("services")?, inner),
        None => (pool.get(scheme)?, key),
    };
    let mut span = item.span();
    for part in key.split('.') {
        let Some((name, inner)) = item.as_table_like().and_then(|t| t.get_key_value(part)) else {
            break;
        };
        span = name.span().or_else(|| inner.span());
        item = inner;
    }
    let before = text.get(..span?.start)?;
    Some(before.matches('\n').count() + 1)
}

/// The JSON schema of the file, with the sections of the backends that are compiled in.
pub(crate) fn schema() -> serde_json::Value {
    let mut root = schemars::schema_for!(Config).to_value();
    for (scheme, backend) in backends::all() {
        let Some(backend) = backend else { continue };
        let mut section = (backend.schema)().to_value();
        let Some(fields) = section.as_object_mut() else {
            continue;
        };
        fields.remove("$schema");
        // References lead to the definitions of the whole document.
        let inner = fields.remove("$defs");
        let inner = inner.as_ref().and_then(serde_json::Value::as_object);
        for (name, definition) in inner.into_iter().flatten() {
            root["$defs"][name] = definition.clone();
        }
        root["$defs"]["Pool"]["properties"][scheme] = section;
    }
    root
}

#[cfg(all(test, feature = "process"))]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../docs/example.toml");

    #[test]
    fn the_example_of_the_documents_is_read() {
        let config = Config::parse(GOOD).unwrap();
        assert_eq!(config.pools.len(), 1);
    }

    #[test]
    fn lines_of_a_backends_section_are_found() {
        let text = "[[pool]]\nname = \"a\"\n[pool.process]\nx = 1\n[pool.process.limits]\ny = 2\n";
        for (key, line) in [("x", 4), ("limits.y", 6), ("limits.z", 5), ("z", 3)] {
            assert_eq!(line_of(text, 0, "process", key), Some(line), "{key}");
        }
        assert_eq!(line_of(text, 1, "process", "x"), None);
    }

    #[test]
    fn what_runners_are_made_from_decides_their_revision() {
        let of = |text: &str| revision(text, 0, "process");
        assert_eq!(of(GOOD), of(&GOOD.replace("max = 8", "max = 9")));
        assert_ne!(of(GOOD), of(&GOOD.replace("[\"small\"]", "[\"large\"]")));
        assert_ne!(of(GOOD), of(&format!("{GOOD}\nx = 1")));
    }

    #[test]
    fn mistakes_are_named_with_what_to_do() {
        for (find, put, told) in [
            ("max = 8", "max = 8\nmin_idel = 1", "min_idel"),
            ("max = 8", "max = \"8\"", "invalid type"),
            ("max = 8", "max = 8\nmin_idle = 9", "above `max`"),
            (
                "max = 8",
                "max = 8\nbooted_within_seconds = 60",
                "`[callback]`",
            ),
            (
                "[pool.process]",
                "schedule = [{ cron = \"0 8 * * 8\", minutes = 60, min_idle = 2 }]\n[pool.process]",
                "the schedule cannot be read",
            ),
            (
                "[pool.process]",
                "schedule = [{ cron = \"0 8 * * *\", minutes = 60, min_idle = 9 }]\n[pool.process]",
                "above `max`",
            ),
            (
                "backend = \"process\"",
                "backend = \"zzz\"",
                "unknown backend `zzz`",
            ),
            ("name = \"small\"", "name = \"a/b\"", "set `prefix`"),
            ("[\"small\"]", "[\"a;b\"]", "holds ';'"),
            ("[\"small\"]", "[]", "is empty"),
            ("\"octo-org/hello\"", "\"a/b/c\"", "too many parts"),
            (
                "max = 8",
                "max = 8\nregistration = \"token\"\nscale_set = {}",
                "register just in time",
            ),
            (
                "max = 8",
                "max = 8\nplanner = { url = \"http://planner.example\", flavor = \"large\", token_file = \"/x\" }",
                "`planner.url` is not https",
            ),
        ] {
            assert!(GOOD.contains(find), "{find}");
            let error = Config::parse(&GOOD.replace(find, put))
                .unwrap_err()
                .to_string();
            assert!(error.contains(told), "{put}: {error}");
        }
    }
}
