//! Services that a runner's instance may be set up with.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::Secret;

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

/// HTTP proxies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// The repository policy compliance service.
#[derive(Debug, Clone)]
pub struct RepoPolicyCompliance {
    /// Its base URL.
    pub url: Url,
    /// The token with which one-time tokens are asked for; it never reaches an instance.
    pub token: Secret,
}
