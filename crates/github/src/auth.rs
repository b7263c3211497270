//! Whose call it is: the credential that goes with each.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use runner_manager_core::{Error, ErrorKind, GitHubPath, Result, Secret};
use url::Url;

use crate::app::App;
use crate::call::Caching;
use crate::rest::RestClient;
use crate::{AppKey, Auth, GitHubConfig};

/// Which budget a call counts against. Never a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// The personal token.
    Token,
    /// An App itself, by its place in the credential.
    App(usize),
    /// One installation of the App.
    Installation(u64),
    /// The Actions service behind scale sets, with limits of its own.
    Service,
}

/// What goes into the `authorization` header.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    pub(crate) secret: Secret,
    pub(crate) identity: Identity,
    /// The word before the secret.
    pub(crate) scheme: &'static str,
}

impl Bearer {
    pub(crate) fn new(secret: Secret, identity: Identity) -> Self {
        Self {
            secret,
            identity,
            scheme: "Bearer",
        }
    }

    /// A registration token, which buys a connection to the Actions service.
    pub(crate) fn remote(secret: Secret) -> Self {
        Self {
            scheme: "RemoteAuth",
            ..Self::new(secret, Identity::Service)
        }
    }
}

/// The credential in use.
#[derive(Debug)]
pub(crate) enum Credentials {
    Token(Secret),
    Apps(Apps),
}

/// One App or several.
#[derive(Debug)]
pub(crate) struct Apps {
    all: Vec<App>,
    /// Which of them reads the lists of a scope: what did not change is free only for the one
    /// that read it before.
    readers: Mutex<HashMap<String, usize>>,
}

/// What is left of an App's budget in a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) remaining: u64,
    pub(crate) limit: u64,
}

impl Left {
    /// Nothing is known: it is tried, and then known.
    pub(crate) const FULL: Self = Self {
        remaining: u64::MAX,
        limit: u64::MAX,
    };

    fn is_tight(self) -> bool {
        self.remaining < self.limit / 10
    }
}

/// The order in which Apps are tried: the one that is to stay, unless its budget is tight, then
/// those with the most left.
fn order(left: &[Left], stay: Option<usize>) -> Vec<usize> {
    let mut places: Vec<usize> = (0..left.len()).collect();
    places.sort_by_key(|place| {
        let stays = stay == Some(*place) && !left[*place].is_tight();
        (!stays, Reverse(left[*place].remaining))
    });
    places
}

impl Apps {
    async fn bearer(
        &self,
        rest: &RestClient,
        path: &GitHubPath,
        caching: Caching,
        kind: &str,
    ) -> Result<Bearer> {
        if let [app] = self.all.as_slice() {
            return app.bearer(rest, path).await;
        }
        let scope = path.api_path();
        let reader = {
            let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            readers.get(&scope).copied()
        };
        let left = |app: &App| match app.known_installation(path) {
            Some(id) => rest.limits().left(Identity::Installation(id), kind),
            None => Left::FULL,
        };
        let left: Vec<Left> = self.all.iter().map(left).collect();
        let stay = match caching {
            Caching::ByEtag => reader,
            Caching::None => None,
        };
        let mut refused = None;
        for place in order(&left, stay) {
            match self.all[place].bearer(rest, path).await {
                Ok(bearer) => {
                    if caching == Caching::ByEtag {
                        let mut readers =
                            self.readers.lock().unwrap_or_else(PoisonError::into_inner);
                        readers.insert(scope, place);
                    }
                    return Ok(bearer);
                }
                // Not installed there, or its key is revoked: another may serve.
                Err(error) => {
                    tracing::debug!(place, scope, %error, "a GitHub App cannot serve");
                    refused = Some(error);
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            Error::new(ErrorKind::InvalidConfig, "there is no GitHub App to act as")
        }))
    }
}

impl Credentials {
    pub(crate) fn new(config: &GitHubConfig, api: &Url) -> Result<Self> {
        let patience = config.request_timeout * 4;
        let keys = match &config.auth {
            Auth::Token(token) => {
                crate::app::usable(token.expose(), "token")?;
                return Ok(Self::Token(token.clone()));
            }
            Auth::App {
                app_id,
                installation_id,
                private_key,
            } => vec![AppKey {
                app_id: app_id.clone(),
                installation_id: *installation_id,
                private_key: private_key.clone(),
            }],
            Auth::Apps(keys) => keys.clone(),
        };
        if keys.is_empty() {
            let message = "the list of GitHub Apps is empty; give one, or a token";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        let made = keys.iter().enumerate();
        let made = made.map(|(place, key)| App::new(place, key, api, patience));
        Ok(Self::Apps(Apps {
            all: made.collect::<Result<_>>()?,
            readers: Mutex::default(),
        }))
    }

    /// How many Apps there are.
    pub(crate) fn apps(&self) -> usize {
        match self {
            Self::Token(_) => 0,
            Self::Apps(apps) => apps.all.len(),
        }
    }

    /// The proof that calls about an App itself carry.
    pub(crate) fn proof(&self, place: usize) -> Result<Bearer> {
        match self {
            Self::Apps(apps) if place < apps.all.len() => apps.all[place].proof(),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                "this is for a GitHub App, and the credential is none",
            )),
        }
    }

    /// Whose points the polls of a scope spend, as far as that is known.
    pub(crate) fn pollers(&self, path: &GitHubPath) -> Vec<Identity> {
        match self {
            Self::Token(_) => vec![Identity::Token],
            Self::Apps(apps) => {
                let installed = |app: &App| app.known_installation(path);
                let known = apps.all.iter().filter_map(installed);
                known.map(Identity::Installation).collect()
            }
        }
    }

    /// The credential for a call of this kind in a scope; made or renewed first where needed.
    pub(crate) async fn bearer(
        &self,
        rest: &RestClient,
        path: &GitHubPath,
        caching: Caching,
        kind: &str,
    ) -> Result<Bearer> {
        match self {
            Self::Token(secret) => Ok(Bearer::new(secret.clone(), Identity::Token)),
            Self::Apps(apps) => apps.bearer(rest, path, caching, kind).await,
        }
    }

    /// Drops a token that GitHub refused. True when another one can be had.
    pub(crate) async fn forget(&self, refused: &Bearer) -> bool {
        let Self::Apps(apps) = self else { return false };
        // The installation is of one of them; the others do not know it.
        let mut can = false;
        for app in &apps.all {
            can |= app.forget(refused).await;
        }
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_to_the_app_with_the_most_left_and_lists_stay() {
        let left = |all: &[u64]| -> Vec<Left> {
            let left = |remaining: &u64| Left {
                remaining: *remaining,
                limit: 5_000,
            };
            all.iter().map(left).collect()
        };
        let some = left(&[100, 4_000, 3_000]);
        assert_eq!(order(&some, None), [1, 2, 0]);
        assert_eq!(order(&some, Some(2)), [2, 1, 0]);
        // Below a tenth even lists move.
        assert_eq!(order(&some, Some(0)), [1, 2, 0]);
        let mut unknown = some;
        unknown.push(Left::FULL);
        assert_eq!(order(&unknown, None)[0], 3);
    }
}
