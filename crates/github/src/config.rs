//! What a client is made from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use runner_manager_core::Secret;
use url::Url;

/// How the client proves who it is.
#[derive(Debug, Clone)]
pub enum Auth {
    /// A personal access token, classic or fine-grained.
    Token(Secret),
    /// A GitHub App. Its installation tokens are made, kept and renewed by the client.
    App {
        /// The App's id or its client id, as the App's settings page shows them.
        app_id: String,
        /// The installation to act as; looked up by scope when absent.
        installation_id: Option<u64>,
        /// The App's RSA private key, PEM, as GitHub hands it out.
        private_key: Secret,
    },
    /// Several Apps that share the work: each has a rate limit of its own, and calls go to the
    /// one with the most left.
    Apps(Vec<AppKey>),
}

/// One of several GitHub Apps; the fields are those of [`Auth::App`].
#[derive(Debug, Clone)]
pub struct AppKey {
    /// The App's id or its client id.
    pub app_id: String,
    /// The installation to act as; looked up by scope when absent.
    pub installation_id: Option<u64>,
    /// The App's RSA private key, PEM.
    pub private_key: Secret,
}

/// Where GitHub is and how to reach it.
#[derive(Clone)]
pub struct GitHubConfig {
    /// The web address of GitHub: `https://github.com`, `https://TENANT.ghe.com` or the base of
    /// a GitHub Enterprise Server. The API's address is derived from it. Plain `http` is taken
    /// for loopback addresses only.
    pub url: Url,
    /// The credential.
    pub auth: Auth,
    /// A PEM file of certificate authorities to trust besides those of the system.
    pub ca_bundle: Option<PathBuf>,
    /// The proxy for all calls: `http`, `https`, `socks5` or `socks5h`. Without one, the
    /// environment's `HTTPS_PROXY` and `NO_PROXY` count, except for loopback addresses.
    pub proxy: Option<Url>,
    /// The most that one attempt of a call may take, body included.
    pub request_timeout: Duration,
    /// The most that connecting may take.
    pub connect_timeout: Duration,
}

impl GitHubConfig {
    /// A configuration with the usual deadlines: 30 s for a call, 10 s for connecting.
    #[must_use]
    pub fn new(url: Url, auth: Auth) -> Self {
        Self {
            url,
            auth,
            ca_bundle: None,
            proxy: None,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for GitHubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold its password.
        let proxy = self.proxy.as_ref().map(crate::text::address);
        f.debug_struct("GitHubConfig")
            .field("url", &crate::text::address(&self.url))
            .field("auth", &self.auth)
            .field("ca_bundle", &self.ca_bundle)
            .field("proxy", &proxy)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}
