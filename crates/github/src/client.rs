//! The client itself.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use runner_manager_core::{ErrorKind, GitHubPath, Result};
use url::Url;

use crate::answer::Answer;
use crate::auth::{Bearer, Credentials};
use crate::call::Call;
use crate::carrier::Carrier;
use crate::model::RateLimit;
use crate::scale_sets::Connections;
use crate::transport::Transport;
use crate::{GitHubConfig, http, urls};

/// A GitHub host and a credential. Cheap to clone; see the crate's documentation.
#[derive(Clone)]
pub struct GitHub(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    web: Url,
    pub(crate) api: Url,
    pub(crate) credentials: Credentials,
    pub(crate) transport: Transport,
    /// The ids of runner groups by scope and name.
    pub(crate) groups: Mutex<HashMap<(String, String), u64>>,
    /// The ids of scale sets by scope and group, and name.
    pub(crate) sets: Mutex<HashMap<(String, String), u64>>,
    pub(crate) connections: Connections,
    /// The scopes whose runners this credential has seen.
    pub(crate) seen: Mutex<HashSet<String>>,
}

impl fmt::Debug for GitHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHub")
            .field("api", &self.0.api.as_str())
            .field("credentials", &self.0.credentials)
            .finish_non_exhaustive()
    }
}

impl GitHub {
    /// Makes a client. Reads the CA bundle, a small local file; makes no call.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when the URL, the credential's form, the CA bundle or the
    /// proxy cannot be used.
    pub fn new(config: GitHubConfig) -> Result<Self> {
        Self::made(config, None)
    }

    /// A client whose calls all go over a carrier, to a simulated GitHub.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn over(carrier: Arc<dyn Carrier>, config: GitHubConfig) -> Result<Self> {
        Self::made(config, Some(carrier))
    }

    fn made(config: GitHubConfig, carrier: Option<Arc<dyn Carrier>>) -> Result<Self> {
        let api = urls::api_base(&config.url)?;
        let credentials = Credentials::new(&config, &api)?;
        let transport = Transport::new(http::build(&config)?, carrier);
        Ok(Self(Arc::new(Inner {
            web: config.url,
            api,
            credentials,
            transport,
            groups: Mutex::default(),
            sets: Mutex::default(),
            connections: Connections::default(),
            seen: Mutex::default(),
        })))
    }

    /// The scope's web address: what `config.sh --url` gets.
    #[must_use]
    pub fn scope_url(&self, path: &GitHubPath) -> String {
        let base = self.0.web.as_str().trim_end_matches('/');
        format!("{base}/{path}")
    }

    /// What GitHub last said about the calls that are left: the tightest, where an App has
    /// several installations. None before the first answer, and where limits are off.
    #[must_use]
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.0.transport.limits().tightest()
    }

    /// How many requests were sent so far, repeats and unchanged pages included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.transport.calls()
    }

    /// Makes a call with the credential of a scope; once more with a new installation token
    /// when GitHub does not take the old one.
    pub(crate) async fn send(&self, path: &GitHubPath, call: &Call) -> Result<Answer> {
        let inner = &self.0;
        let bearer = self.bearer(path).await?;
        match inner.transport.call(call, &bearer).await {
            Err(e) if e.kind() == ErrorKind::Unauthenticated => {
                if !inner.credentials.forget(&bearer).await {
                    return Err(e);
                }
                let bearer = self.bearer(path).await?;
                inner.transport.call(call, &bearer).await
            }
            other => other,
        }
    }

    pub(crate) async fn bearer(&self, path: &GitHubPath) -> Result<Bearer> {
        self.0.credentials.bearer(&self.0.transport, path).await
    }
}
