//! Services that a runner's instance may be set up with.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{RunnerName, Secret};

/// The services around a runner. All are optional.
#[derive(Debug, Clone, Default)]
pub struct SupportServiceConfig {
    /// HTTP proxies for the runner and its jobs.
    pub proxy_config: Option<ProxyConfig>,
    /// A mirror of the Docker Hub registry.
    pub dockerhub_mirror: Option<Url>,
    /// Servers for SSH debug sessions; a runner gets one of them.
    pub ssh_debug_connections: Vec<SshDebugConnection>,
    /// The repository policy compliance service asked before each job.
    pub repo_policy_compliance: Option<RepoPolicyCompliance>,
}

impl SupportServiceConfig {
    /// The SSH debug server of a runner. Instance ids are random, so that runners spread over
    /// the servers, and a runner keeps its own.
    #[must_use]
    pub fn ssh_debug_connection(&self, runner: &RunnerName) -> Option<&SshDebugConnection> {
        let id = u64::from_str_radix(runner.instance_id().as_str(), 16).unwrap_or_default();
        let servers = u64::try_from(self.ssh_debug_connections.len()).unwrap_or(u64::MAX);
        let pick = usize::try_from(id.checked_rem(servers)?).ok()?;
        self.ssh_debug_connections.get(pick)
    }

    /// Whether no service is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.proxy_config.is_none()
            && self.dockerhub_mirror.is_none()
            && self.ssh_debug_connections.is_empty()
            && self.repo_policy_compliance.is_none()
    }
}

/// HTTP proxies.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// For `http` URLs.
    pub http: Option<Url>,
    /// For `https` URLs.
    pub https: Option<Url>,
    /// Hosts, domains and networks that are reached without a proxy.
    #[serde(default)]
    pub no_proxy: Vec<String>,
    /// Whether all outgoing traffic is redirected to the proxy by the instance itself.
    #[serde(default)]
    pub transparent: bool,
}

impl fmt::Debug for ProxyConfig {
    /// Without the credentials that a proxy's URL may hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = |url: &Option<Url>| {
            let url = url.as_ref()?;
            Some(format!(
                "{}:{:?}",
                url.host_str()?,
                url.port_or_known_default()
            ))
        };
        f.debug_struct("ProxyConfig")
            .field("http", &host(&self.http))
            .field("https", &host(&self.https))
            .field("no_proxy", &self.no_proxy)
            .field("transparent", &self.transparent)
            .finish()
    }
}

/// A tmate server for SSH debug sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshDebugConnection {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `SHA256:…` fingerprint of the RSA host key.
    pub rsa_fingerprint: String,
    /// `SHA256:…` fingerprint of the ed25519 host key.
    pub ed25519_fingerprint: String,
}

/// The repository policy compliance service, as one runner asks it.
#[derive(Debug, Clone)]
pub struct RepoPolicyCompliance {
    /// Its base URL, without credentials.
    pub url: Url,
    /// The one-time token of this runner. The one that buys such tokens stays with the manager.
    pub token: Secret,
}
