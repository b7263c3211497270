//! Acting as a GitHub App: signed proofs, installations and their tokens.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use runner_manager_core::{Error, ErrorKind, GitHubPath, Result, Retry, Secret};
use serde::Serialize;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use url::Url;

use crate::answer::until;
use crate::auth::{Bearer, Identity};
use crate::call::{Call, Safety};
use crate::rest::RestClient;
use crate::{AppKey, urls, wire};

/// How far the proof's begin lies back, for clocks that differ.
const BACKDATED: i64 = 60;
/// How long a proof is good from now on; GitHub takes at most ten minutes in all.
const PROOF_SECONDS: i64 = 8 * 60;
/// How long before its end a token is renewed.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);
const NEEDS: &str = "an installation of the App in this scope";

/// One App.
pub(crate) struct App {
    /// Its place among the Apps of the credential.
    place: usize,
    issuer: String,
    installation: Option<u64>,
    key: EncodingKey,
    api: Url,
    /// The longest wait for a renewal that another call makes.
    patience: Duration,
    found: Mutex<HashMap<String, u64>>,
    slots: Mutex<HashMap<u64, Arc<AsyncMutex<Slot>>>>,
}

/// The token of one installation. Its lock is held while it is renewed: one renewal at a time.
#[derive(Default)]
struct Slot {
    token: Option<(Secret, Instant)>,
    failed: Option<(Instant, ErrorKind, String, Retry)>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iat: i64,
    exp: i64,
    iss: &'a str,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("issuer", &self.issuer)
            .field("installation", &self.installation)
            .finish_non_exhaustive()
    }
}

/// Refuses what no header or claim can carry. The value is not shown.
pub(crate) fn usable(text: &str, what: &str) -> Result<()> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(
            ErrorKind::InvalidConfig,
            format!("GitHub's {what} is empty or holds spaces or characters beyond ASCII"),
        ));
    }
    Ok(())
}

impl App {
    pub(crate) fn new(place: usize, key: &AppKey, api: &Url, patience: Duration) -> Result<Self> {
        usable(&key.app_id, "app_id")?;
        let refuse = || {
            // The cause is left out: it may show parts of the key.
            Error::new(
                ErrorKind::InvalidConfig,
                "the App's private key is not an RSA key in PEM; take the .pem file that GitHub made for the App",
            )
        };
        let signer = EncodingKey::from_rsa_pem(key.private_key.expose().trim().as_bytes())
            .map_err(|_| refuse())?;
        let app = Self {
            place,
            issuer: key.app_id.clone(),
            installation: key.installation_id,
            key: signer,
            api: api.clone(),
            patience,
            found: Mutex::default(),
            slots: Mutex::default(),
        };
        // The key is only really read when it signs.
        app.proof().map_err(|_| refuse())?;
        Ok(app)
    }

    /// The proof that calls about the App itself carry.
    pub(crate) fn proof(&self) -> Result<Bearer> {
        let now = Timestamp::now().as_second();
        let claims = Claims {
            iat: now - BACKDATED,
            exp: now + PROOF_SECONDS,
            iss: &self.issuer,
        };
        let proof = encode(&Header::new(Algorithm::RS256), &claims, &self.key).map_err(|_| {
            Error::new(
                ErrorKind::InvalidConfig,
                "the App's private key cannot sign",
            )
        })?;
        Ok(Bearer::new(Secret::new(proof), Identity::App(self.place)))
    }

    /// The token of the installation that serves a scope.
    pub(crate) async fn bearer(&self, rest: &RestClient, path: &GitHubPath) -> Result<Bearer> {
        let id = self.installation_of(rest, path).await?;
        let asked = Instant::now();
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(id).or_default())
        };
        let Ok(mut slot) = tokio::time::timeout(self.patience, slot.lock()).await else {
            return Err(Error::new(
                ErrorKind::TimedOut,
                "waited too long for a new installation token",
            )
            .with_retry(Retry::After(Duration::from_secs(1)))
            .with_context("installation", id));
        };
        if let Some((secret, renew_at)) = &slot.token
            && Instant::now() < *renew_at
        {
            return Ok(bearer(secret, id));
        }
        // Those who waited while a renewal failed share its failure, and do not try in turn.
        if let Some((at, kind, text, retry)) = &slot.failed
            && *at > asked
        {
            return Err(Error::new(*kind, text.clone()).with_retry(*retry));
        }
        match self.renew(rest, id).await {
            Ok((secret, renew_at)) => {
                let bearer = bearer(&secret, id);
                *slot = Slot {
                    token: Some((secret, renew_at)),
                    failed: None,
                };
                Ok(bearer)
            }
            Err(e) => {
                if e.kind() == ErrorKind::NotFound {
                    self.found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .retain(|_, known| *known != id);
                }
                slot.failed = Some((Instant::now(), e.kind(), e.to_string(), e.retry()));
                Err(e)
            }
        }
    }

    async fn renew(&self, rest: &RestClient, id: u64) -> Result<(Secret, Instant)> {
        let segments = ["app", "installations", &id.to_string(), "access_tokens"];
        let url = urls::join(&self.api, &segments, &[]);
        let call = Call::post(url, None, Safety::Harmless, NEEDS);
        let answer = rest.call(&call, &self.proof()?).await?;
        let token: wire::Token = answer.json()?;
        usable(token.token.expose(), "installation token")?;
        // GitHub's clock is compared with GitHub's clock: ours may be off.
        let good = until(
            token.expires_at,
            answer.date().unwrap_or_else(Timestamp::now),
        );
        // A token that is shorter-lived than the margin is used once, not renewed forever.
        let keep = good.saturating_sub(RENEW_BEFORE);
        Ok((token.token, Instant::now() + keep))
    }

    /// The installation that serves a scope, where that is known.
    pub(crate) fn known_installation(&self, path: &GitHubPath) -> Option<u64> {
        if self.installation.is_some() {
            return self.installation;
        }
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(&path.to_string().to_ascii_lowercase()).copied()
    }

    async fn installation_of(&self, rest: &RestClient, path: &GitHubPath) -> Result<u64> {
        if let Some(id) = self.known_installation(path) {
            return Ok(id);
        }
        let scope = path.to_string().to_ascii_lowercase();
        let url = urls::in_scope(&self.api, path, &["installation"], &[]);
        let call = Call::get(url, NEEDS);
        let answer = rest.call(&call, &self.proof()?).await.map_err(|e| {
            if e.kind() != ErrorKind::NotFound {
                return e;
            }
            Error::new(
                ErrorKind::NotFound,
                format!("the GitHub App is not installed in {path}; install it there, or check the scope's name"),
            )
            .with_source(e)
        })?;
        let id = answer.json::<wire::Installation>()?.id;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(scope, id);
        Ok(id)
    }

    /// Drops a token that GitHub refused, unless it was replaced meanwhile.
    pub(crate) async fn forget(&self, refused: &Bearer) -> bool {
        let Identity::Installation(id) = refused.identity else {
            return false;
        };
        let slot = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.get(&id).cloned()
        };
        let Some(slot) = slot else { return true };
        let Ok(mut slot) = tokio::time::timeout(self.patience, slot.lock()).await else {
            return false;
        };
        let same = |(kept, _): &(Secret, Instant)| kept.expose() == refused.secret.expose();
        if slot.token.as_ref().is_some_and(same) {
            slot.token = None;
        }
        true
    }
}

fn bearer(secret: &Secret, id: u64) -> Bearer {
    Bearer::new(secret.clone(), Identity::Installation(id))
}
