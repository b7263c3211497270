//! The client itself.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runner_manager_core::{Error, ErrorKind, GitHubPath, Result};
use url::Url;

use crate::answer::Answer;
use crate::auth::{Bearer, Credentials};
use crate::call::Call;
use crate::http::HttpTransport;
use crate::model::RateLimit;
use crate::rest::RestClient;
use crate::scale_sets::Connections;
use crate::transport::Transport;
use crate::{GitHubConfig, urls};

/// How many reads are sent at once while nothing is known of the credential.
const FIRST_READS: usize = 100;

/// A GitHub host and a credential. Cheap to clone; see the crate's documentation.
#[derive(Clone)]
pub struct GitHub(pub(crate) Arc<Inner>);

/// A record that cannot be read: its list, id and name.
type OddRecord = (String, Option<u64>, Option<String>);

pub(crate) struct Inner {
    web: Url,
    pub(crate) api: Url,
    pub(crate) credentials: Credentials,
    pub(crate) rest: RestClient,
    /// The ids of runner groups by scope and name.
    pub(crate) groups: Mutex<HashMap<(String, String), u64>>,
    /// The ids of scale sets by scope and group, and name.
    pub(crate) sets: Mutex<HashMap<(String, String), u64>>,
    pub(crate) connections: Connections,
    /// The scopes whose runners this credential has seen.
    pub(crate) seen: Mutex<HashSet<String>>,
    /// The odd records that were told of.
    pub(crate) odd: Mutex<HashSet<OddRecord>>,
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
        let transport = HttpTransport::new(&config)?;
        Self::over(Arc::new(transport), config)
    }

    /// A client whose calls all go over this transport. What the configuration says about
    /// connections, `ca_bundle`, `proxy` and `connect_timeout`, is the transport's own to keep.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when the URL or the credential's form cannot be used.
    pub fn over(transport: Arc<dyn Transport>, config: GitHubConfig) -> Result<Self> {
        let api = urls::api_base(&config.url)?;
        let credentials = Credentials::new(&config, &api)?;
        let rest = RestClient::new(transport, config.request_timeout);
        Ok(Self(Arc::new(Inner {
            web: config.url,
            api,
            credentials,
            rest,
            groups: Mutex::default(),
            sets: Mutex::default(),
            connections: Connections::default(),
            seen: Mutex::default(),
            odd: Mutex::default(),
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
        self.0.rest.limits().tightest()
    }

    /// How many requests were sent so far, repeats and unchanged pages included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.rest.calls()
    }

    /// Makes a call with the credential of a scope; once more with a new installation token
    /// when GitHub does not take the old one.
    pub(crate) async fn send(&self, path: &GitHubPath, call: &Call) -> Result<Answer> {
        let inner = &self.0;
        let mut bearer = self.bearer(path, call).await?;
        let mut others = inner.credentials.apps().saturating_sub(1);
        loop {
            match inner.rest.call(call, &bearer).await {
                // What is refused for too many calls has not been done; another App may have
                // some left.
                Err(e) if e.kind() == ErrorKind::RateLimited && others > 0 => {
                    others -= 1;
                    let other = self.bearer(path, call).await?;
                    if other.identity == bearer.identity {
                        return Err(e);
                    }
                    bearer = other;
                }
                Err(e) if e.kind() == ErrorKind::Unauthenticated => {
                    return self.send_anew(path, call, &bearer, e).await;
                }
                other => return other,
            }
        }
    }

    async fn send_anew(
        &self,
        path: &GitHubPath,
        call: &Call,
        refused: &Bearer,
        error: Error,
    ) -> Result<Answer> {
        if !self.0.credentials.forget(refused).await {
            return Err(error);
        }
        let bearer = self.bearer(path, call).await?;
        self.0.rest.call(call, &bearer).await
    }

    /// The credential for a call in a scope.
    pub(crate) async fn bearer(&self, path: &GitHubPath, call: &Call) -> Result<Bearer> {
        let (rest, kind) = (&self.0.rest, call.kind());
        let credentials = &self.0.credentials;
        credentials.bearer(rest, path, call.caching, &kind).await
    }

    /// The API's base.
    pub(crate) fn api(&self) -> &Url {
        &self.0.api
    }

    /// How many reads of a scope may be sent at once now, so that GitHub's points of a minute are
    /// kept: those of the App with the least left, which
    /// reads the lists.
    pub(crate) fn reads_left(&self, path: &GitHubPath) -> usize {
        let limits = self.0.rest.limits();
        let pollers = self.0.credentials.pollers(path).into_iter();
        let left = pollers.map(|identity| limits.reads_left(identity));
        left.min().unwrap_or(FIRST_READS)
    }

    /// How long a poll of this scope should wait for GitHub's points of a minute, 900 for each
    /// credential: nothing while few reads are made.
    #[must_use]
    pub fn poll_pause(&self, path: &GitHubPath) -> Duration {
        let limits = self.0.rest.limits();
        let pollers = self.0.credentials.pollers(path).into_iter();
        let pauses = pollers.map(|identity| limits.pause(identity));
        pauses.max().unwrap_or_default()
    }
}
