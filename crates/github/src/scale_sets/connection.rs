//! The connection of a scope to its Actions service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, GitHubPath, Result, Secret};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use url::Url;

use super::wire;
use crate::answer::{Answer, until};
use crate::auth::{Bearer, Identity};
use crate::call::{Call, Safety};
use crate::{GitHub, urls};

/// How long before its end the service's token is renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// How long a token is kept whose end cannot be read.
const UNKNOWN_LIFE: Duration = Duration::from_secs(300);
/// How often a registration is tried: a fresh registration token takes a moment to be known
/// everywhere.
const TRIES: u32 = 4;
const VERSION: (&str, &str) = ("api-version", "6.0-preview");

type Slot = Arc<AsyncMutex<Option<Connected>>>;

/// The connections by scope.
#[derive(Default)]
pub(crate) struct Connections(Mutex<HashMap<String, Slot>>);

#[derive(Clone)]
struct Connected {
    base: Base,
    token: Secret,
    renew_at: Instant,
}

/// The service's address.
#[derive(Clone)]
pub(super) struct Base(Url);

impl Base {
    /// A URL below it.
    pub(super) fn join(&self, segments: &[&str], query: &[(&str, &str)]) -> Url {
        let mut query = query.to_vec();
        query.push(VERSION);
        urls::join(&self.0, segments, &query)
    }
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
}

/// When a token ends, as it says itself.
fn ends(token: &Secret) -> Option<Timestamp> {
    let claims = token.expose().split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_second(claims.exp).ok()
}

/// An address that GitHub named and that secrets go to: encrypted, or on this machine.
pub(super) fn trusted(text: &str) -> Result<Url> {
    let refuse = |what: &str| Error::new(ErrorKind::BadAnswer, what.to_owned());
    let url = Url::parse(text)
        .map_err(|e| refuse("GitHub named an address that is no URL").with_source(e))?;
    if url.scheme() == "https" || (url.scheme() == "http" && urls::is_loopback(&url)) {
        return Ok(url);
    }
    Err(refuse(
        "GitHub named an address that is not https; check `url` and any proxy between",
    ))
}

impl GitHub {
    fn slot(&self, path: &GitHubPath) -> Slot {
        let connections = &self.0.connections.0;
        let mut slots = connections.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(path.api_path()).or_default())
    }

    /// Makes a call of the scope's service; once more over a new connection when the service
    /// does not take the old token.
    pub(super) async fn service(
        &self,
        path: &GitHubPath,
        call: impl Fn(&Base) -> Call,
    ) -> Result<Answer> {
        let (base, bearer) = self.connected(path).await?;
        match self.0.rest.call(&call(&base), &bearer).await {
            Err(e) if e.kind() == ErrorKind::Unauthenticated => {
                let slot = self.slot(path);
                let mut kept = slot.lock().await;
                let old = |c: &Connected| c.token.expose() == bearer.secret.expose();
                if kept.as_ref().is_some_and(old) {
                    *kept = None;
                }
                drop(kept);
                let (base, bearer) = self.connected(path).await?;
                self.0.rest.call(&call(&base), &bearer).await
            }
            other => other,
        }
    }

    /// The service's address and a token for it. One renewal at a time.
    pub(super) async fn connected(&self, path: &GitHubPath) -> Result<(Base, Bearer)> {
        let slot = self.slot(path);
        let mut kept = slot.lock().await;
        let good = kept.as_ref().filter(|c| Instant::now() < c.renew_at);
        let connected = match good {
            Some(good) => good.clone(),
            None => kept.insert(self.connect(path).await?).clone(),
        };
        let bearer = Bearer::new(connected.token, Identity::Service);
        Ok((connected.base, bearer))
    }

    async fn connect(&self, path: &GitHubPath) -> Result<Connected> {
        let registration = self.registration_token(path).await?;
        let url = urls::join(&self.0.api, &["actions", "runner-registration"], &[]);
        let body = json!({ "url": self.scope_url(path), "runner_event": "register" });
        let call = Call::post(url, Some(body), Safety::Harmless, urls::needs(path));
        let bearer = Bearer::remote(registration.token);
        let mut tried = 1;
        let answer = loop {
            match self.0.rest.call(&call, &bearer).await {
                Err(e)
                    if tried < TRIES
                        && matches!(
                            e.kind(),
                            ErrorKind::Unauthenticated | ErrorKind::PermissionDenied
                        ) =>
                {
                    tracing::debug!(scope = %path, error = %e, tried, "the registration token is not known everywhere yet");
                    tokio::time::sleep(Duration::from_millis(500) * 2_u32.pow(tried)).await;
                    tried += 1;
                }
                answer => break answer?,
            }
        };
        let made: wire::Connection = answer.json()?;
        crate::app::usable(made.token.expose(), "Actions service token")?;
        let now = answer.date().unwrap_or_else(Timestamp::now);
        let good = ends(&made.token).map_or(UNKNOWN_LIFE, |end| until(end, now));
        Ok(Connected {
            base: Base(trusted(&made.url)?),
            token: made.token,
            renew_at: Instant::now() + good.saturating_sub(RENEW_BEFORE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_read_from_it() {
        // {"alg":"none"}.{"exp":1767323045}
        let token = Secret::new("eyJhbGciOiJub25lIn0.eyJleHAiOjE3NjczMjMwNDV9.x");
        assert_eq!(ends(&token).unwrap().as_second(), 1_767_323_045);
        for odd in ["", "a", "a.b", "a.e30.c"] {
            assert_eq!(ends(&Secret::new(odd)), None, "{odd}");
        }
    }

    #[test]
    fn secrets_go_only_where_nobody_listens() {
        assert!(trusted("https://pipelines.actions.example/x").is_ok());
        assert!(trusted("http://127.0.0.1:9/x").is_ok());
        for odd in ["http://pipelines.actions.example", "ftp://x", "x"] {
            assert_eq!(trusted(odd).unwrap_err().kind(), ErrorKind::BadAnswer);
        }
    }
}
