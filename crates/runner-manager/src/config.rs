//! The configuration file.

mod pool;
mod sections;
mod text;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runner_manager_core::{
    Budgets, Connected, Error, ErrorKind, GitHubPath, NamePrefix, Result, Secret, SecretSource,
};
use runner_manager_fleet::{FleetConfig, PoolConfig};
use runner_manager_github::{AppKey, Auth, GitHub, GitHubConfig};
use runner_manager_server::Flushing;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use url::{Host, Url};

use crate::backends;
use crate::services::{Callback, EventsSection, check_events};
pub(crate) use pool::Pool;
use text::{line_of, revision};

/// The whole file. `docs/configuration.md` describes every key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) manager: Manager,
    pub(crate) github: GitHubSection,
    webhook: Option<Webhook>,
    pub(crate) callback: Option<Callback>,
    events: Option<EventsSection>,
    status: Option<StatusSection>,
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

/// Where the manager tells how it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StatusSection {
    #[serde(default = "status_address")]
    listen: SocketAddr,
    #[serde(default)]
    flush: bool,
}

fn status_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 55_555))
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

fn five_minutes() -> u64 {
    300
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
        if let Some((listen, Flushing::Allowed)) = config.status() {
            if !listen.ip().is_loopback() {
                return Err(wrong(
                    "`status.flush` lets whoever reaches `status.listen` remove runners; listen on 127.0.0.1, or leave `flush` out",
                ));
            }
            if config.pools.iter().any(|pool| pool.backend == "process") {
                return Err(wrong(
                    "`status.flush` lets every program of this machine remove runners, and jobs of the backend `process` are such programs; leave `flush` out, and use `runner-manager runners flush`",
                ));
            }
        }
        let (mut names, mut prefixes) = (HashSet::new(), HashSet::new());
        for pool in &config.pools {
            pool.check(config.callback.is_some())?;
            if !names.insert(&pool.name) {
                let message = "two pools have this name; rename one";
                return Err(wrong(message).with_context("pool", &pool.name));
            }
            if !prefixes.insert(pool.prefix()?) {
                let message = "two pools have this prefix; a prefix marks what is a pool's own";
                return Err(wrong(message).with_context("pool", &pool.name));
            }
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

    /// Where to listen for those who ask how the manager is, and whether they may flush.
    pub(crate) fn status(&self) -> Option<(SocketAddr, Flushing)> {
        let section = self.status.as_ref()?;
        let flushing = match section.flush {
            true => Flushing::Allowed,
            false => Flushing::Refused,
        };
        Some((section.listen, flushing))
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

/// The keys that every pool may have, which are no names of backends.
pub(crate) fn keys_of_pools() -> Vec<String> {
    let schema = schemars::schema_for!(Pool).to_value();
    let keys = schema["properties"].as_object().into_iter().flatten();
    keys.map(|(key, _)| key.clone()).collect()
}

/// The JSON schema of the file, with the sections of the backends that are compiled in.
pub(crate) fn schema() -> serde_json::Value {
    let mut root = schemars::schema_for!(Config).to_value();
    for (scheme, backend) in backends::all() {
        let Some(backend) = backend else {
            root["$defs"]["Pool"]["properties"][scheme] = json!({ "type": "object" });
            continue;
        };
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
            (
                "[pool.process]",
                "[pool.lxd]\n[pool.process]",
                "`[pool.lxd]` is not read by the backend `process`",
            ),
            ("[pool.process]", "[pool.zzz]\n[pool.process]", "`zzz`"),
            (
                "[[pool]]",
                "[status]\nlisten = \"192.0.2.1:80\"\nflush = true\n[[pool]]",
                "listen on 127.0.0.1",
            ),
            (
                "[[pool]]",
                "[status]\nflush = true\n[[pool]]",
                "jobs of the backend `process`",
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
