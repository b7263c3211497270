//! The sections of the configuration about what surrounds runners.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{
    Capability, Error, ErrorKind, ProxyConfig, Result, SecretSource, SshDebugConnection, Support,
    SupportServiceConfig,
};
use runner_manager_fleet::{CallbackConfig, ManagerServices, RepoPolicyConfig};
use runner_manager_server::TlsFiles;
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

use crate::config::is_local;

/// Where instances call the manager.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Callback {
    #[schemars(with = "String")]
    url: Url,
    #[serde(default = "loopback")]
    pub(crate) listen: SocketAddr,
    tls_certificate_file: Option<PathBuf>,
    tls_key_file: Option<PathBuf>,
    #[serde(default = "ten_minutes")]
    claim_within_seconds: u64,
    #[serde(default)]
    networks: Vec<String>,
}

/// Where events are written to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsSection {
    file: PathBuf,
}

/// The services around the runners of a pool.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Services {
    proxy: Option<Proxy>,
    #[schemars(with = "Option<String>")]
    dockerhub_mirror: Option<Url>,
    #[serde(default)]
    #[schemars(with = "Vec<SshDebugSchema>")]
    ssh_debug: Vec<SshDebugConnection>,
    repo_policy: Option<RepoPolicy>,
}

/// HTTP proxies.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Proxy {
    #[schemars(with = "Option<String>")]
    http: Option<Url>,
    #[schemars(with = "Option<String>")]
    https: Option<Url>,
    #[serde(default)]
    no_proxy: Vec<String>,
    #[serde(default)]
    transparent: bool,
    credentials_file: Option<PathBuf>,
}

/// A tmate server, as the schema shows it.
#[derive(JsonSchema)]
#[schemars(rename = "SshDebugConnection")]
#[expect(dead_code, reason = "the schema alone needs its fields")]
struct SshDebugSchema {
    host: String,
    port: u16,
    rsa_fingerprint: String,
    ed25519_fingerprint: String,
}

/// The repository policy compliance service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RepoPolicy {
    #[schemars(with = "String")]
    url: Url,
    token_file: PathBuf,
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 8472))
}

fn ten_minutes() -> u64 {
    600
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

impl Callback {
    fn read(&self) -> Result<CallbackConfig> {
        if self.url.scheme() != "https" && !is_local(&self.url) {
            return Err(wrong(
                "`callback.url` is not https, and would show nonces to the network",
            ));
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            return Err(wrong(
                "`callback.url` must hold no user name and no password",
            ));
        }
        let networks = self.networks.iter().map(|network| network.parse());
        Ok(CallbackConfig {
            url: self.url.clone(),
            claim_within: Duration::from_secs(self.claim_within_seconds.max(1)),
            networks: networks.collect::<Result<_>>()?,
        })
    }

    /// The certificate to answer with; `None` where a proxy of this machine speaks TLS.
    pub(crate) fn tls(&self) -> Result<Option<TlsFiles>> {
        match (&self.tls_certificate_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
            })),
            (None, None) => Ok(None),
            _ => Err(wrong(
                "give both of `tls_certificate_file` and `tls_key_file`, or none",
            )),
        }
    }
}

impl Proxy {
    fn read(&self) -> Result<ProxyConfig> {
        let mut proxy = ProxyConfig {
            http: self.http.clone(),
            https: self.https.clone(),
            no_proxy: self.no_proxy.clone(),
            transparent: self.transparent,
        };
        let mut urls: Vec<&mut Url> = [&mut proxy.http, &mut proxy.https]
            .into_iter()
            .flatten()
            .collect();
        if urls.is_empty() {
            return Err(wrong("`proxy` needs `http`, `https` or both"));
        }
        if urls
            .iter()
            .any(|url| !url.username().is_empty() || url.password().is_some())
        {
            return Err(wrong(
                "a proxy's URL holds credentials; put them into `credentials_file`",
            ));
        }
        let Some(file) = &self.credentials_file else {
            return Ok(proxy);
        };
        let secret = SecretSource::File(file.clone()).read()?;
        let form =
            || wrong("the file must hold `USER:PASSWORD`").with_context("file", file.display());
        let (user, password) = secret.expose().split_once(':').ok_or_else(form)?;
        for url in &mut urls {
            url.set_username(user)
                .and_then(|()| url.set_password(Some(password)))
                .map_err(|()| wrong("this proxy's URL takes no credentials"))?;
        }
        Ok(proxy)
    }
}

impl Services {
    pub(crate) fn support(&self) -> Result<SupportServiceConfig> {
        Ok(SupportServiceConfig {
            proxy_config: self.proxy.as_ref().map(Proxy::read).transpose()?,
            dockerhub_mirror: self.dockerhub_mirror.clone(),
            ssh_debug_connections: self.ssh_debug.clone(),
            repo_policy_compliance: None,
        })
    }

    /// What the manager does for the pool's runners.
    pub(crate) fn of_manager(
        &self,
        callback: Option<&Callback>,
        events: Option<&EventsSection>,
    ) -> Result<Arc<ManagerServices>> {
        let policy = self.repo_policy.as_ref().map(|policy| {
            Ok(RepoPolicyConfig {
                url: policy.url.clone(),
                token: SecretSource::File(policy.token_file.clone()).read()?,
            })
        });
        Ok(Arc::new(ManagerServices {
            callback: callback.map(Callback::read).transpose()?,
            repo_policy: policy.transpose()?,
            events_file: events.map(|events| events.file.clone()),
        }))
    }

    /// Refuses what only the bootstrap of cloud-init brings, where instances boot without it:
    /// every launch would fail.
    pub(crate) fn fit(&self, backend: &str, capability: &Capability) -> Result<()> {
        if !matches!(capability.cloud_init, Support::Unsupported(_)) {
            return Ok(());
        }
        let refuse = |key: &str, what: &str, advice: &str| {
            let message = format!(
                "runners of the backend `{backend}` do not boot by cloud-init, and {what}; {advice}, or choose another backend"
            );
            Err(wrong(message).with_context("key", key))
        };
        if self.repo_policy.is_some() {
            let what = "ask no repository policy service";
            return refuse("services.repo_policy", what, "remove `repo_policy`");
        }
        if self.proxy.as_ref().is_some_and(|proxy| proxy.transparent) {
            let what = "have no transparent proxy";
            return refuse("services.proxy", what, "set `transparent` to false");
        }
        Ok(())
    }

    /// What can be checked without reading a secret.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(policy) = &self.repo_policy
            && policy.url.scheme() != "https"
            && !is_local(&policy.url)
        {
            return Err(wrong(
                "`repo_policy.url` is not https, and would show tokens to the network",
            ));
        }
        Ok(())
    }
}

/// The file of events, or its folder, as far as it can be written.
pub(crate) fn check_events(events: Option<&EventsSection>) -> Result<()> {
    let Some(events) = events else { return Ok(()) };
    let folder = events.file.parent().filter(|p| !p.as_os_str().is_empty());
    if folder.is_some_and(Path::is_dir) {
        return Ok(());
    }
    Err(wrong("the folder of `events.file` does not exist")
        .with_context("file", events.file.display()))
}
