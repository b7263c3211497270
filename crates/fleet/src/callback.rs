//! What instances ask of the manager: their secrets, once, and to be heard.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use runner_manager_core::{
    BootSecrets, Error, ErrorKind, Result, RunnerCredential, RunnerName, Secret,
    SupportServiceConfig,
};
use runner_manager_store::{Digest, NewBoot, Refusal};
use serde::{Deserialize, Serialize};

use crate::operation::Context;
use crate::pool::Command;
use crate::{CallbackConfig, Fleet, PoolConfig};

/// How long the backend may take to say where an instance comes from.
const LOOK_WITHIN: Duration = Duration::from_secs(10);

/// How far an instance is, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It has booted and holds its secrets.
    Booted,
    /// It looks for the runner program, or fetches it.
    Installing,
    /// The runner program starts, and waits for a job.
    Listening,
    /// A job runs.
    JobStarted,
    /// The runner program has ended after its job.
    JobCompleted,
    /// Nothing is left to do on it.
    ShuttingDown,
}

impl Phase {
    fn rank(self) -> u8 {
        self as u8 + 1
    }
}

/// The digest of a secret, for one use of it.
fn fingerprint(purpose: &str, secret: &str) -> Digest {
    let text = format!("runner-manager {purpose}\n{secret}");
    let mut answer = [0; 32];
    answer.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    answer
}

/// A secret of 256 random bits.
fn random_secret() -> Result<Secret> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorKind::Local, "the system gives no random numbers"))?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Secret::new(hex))
}

/// The key that a nonce gives. Each nonce is used once, so that the cipher's own counter can
/// stay at zero.
fn key(nonce: &Secret) -> Result<(LessSafeKey, Nonce)> {
    let key = fingerprint("claim key", nonce.expose());
    let key = UnboundKey::new(&AES_256_GCM, &key)
        .map_err(|_| Error::new(ErrorKind::Unexpected, "the cipher takes no key"))?;
    Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key([0; 12])))
}

fn seal(nonce: &Secret, text: &Secret) -> Result<Vec<u8>> {
    let (key, counter) = key(nonce)?;
    let mut sealed = text.expose().as_bytes().to_vec();
    key.seal_in_place_append_tag(counter, Aad::empty(), &mut sealed)
        .map_err(|_| Error::new(ErrorKind::Unexpected, "the cipher fails"))?;
    Ok(sealed)
}

fn unseal(nonce: &Secret, mut sealed: Vec<u8>) -> Result<Secret> {
    let (key, counter) = key(nonce)?;
    let broken = || Error::new(ErrorKind::Local, "the stored claim is damaged");
    let text = key.open_in_place(counter, Aad::empty(), &mut sealed);
    let text = text.map_err(|_| broken())?;
    let text = std::str::from_utf8(text).map_err(|_| broken())?;
    Ok(Secret::new(text))
}

impl Context {
    /// What the instance boots with: the credential itself, or a nonce in its place. The
    /// secrets then wait in the store, sealed with a key that is in no other place than the
    /// instance's user-data.
    pub(crate) async fn hand_over(
        &self,
        name: &RunnerName,
        credential: RunnerCredential,
        support: &SupportServiceConfig,
    ) -> Result<RunnerCredential> {
        let takes_claims = &self.pool.manager.capability().claim;
        let Some(callback) = &self.pool.services.callback else {
            return Ok(credential);
        };
        if matches!(takes_claims, runner_manager_core::Support::Unsupported(_)) {
            return Ok(credential);
        }
        let (nonce, token) = (random_secret()?, random_secret()?);
        let secrets = BootSecrets::new(&credential, support)?.with_callback_token(&token)?;
        let boot = NewBoot {
            name: name.clone(),
            nonce: fingerprint("nonce", nonce.expose()),
            token: fingerprint("token", token.expose()),
            sealed: seal(&nonce, &secrets.to_json())?,
            deadline: self.shared.clock.now() + callback.claim_within,
        };
        self.shared.store.insert_boot(boot).await?;
        let url = callback.runner_url(name)?;
        Ok(RunnerCredential::Claim { url, nonce })
    }
}

impl CallbackConfig {
    /// Where an instance finds the manager.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for an address that cannot be extended.
    pub fn runner_url(&self, name: &RunnerName) -> Result<url::Url> {
        let base = self.url.as_str().trim_end_matches('/');
        format!("{base}/runner/{name}").parse().map_err(|e| {
            let message = "the callback URL cannot be extended";
            Error::new(ErrorKind::InvalidConfig, message).with_source(e)
        })
    }
}

/// What became of a call of an instance.
pub type Called<T> = std::result::Result<T, Refusal>;

impl Fleet {
    /// Gives an instance its secrets for its nonce: once, before the deadline, and to an address
    /// that fits. Every refusal is an alarm in the log.
    ///
    /// # Errors
    /// When the store or the backend fails; the nonce then still serves.
    pub async fn claim(
        &self,
        name: &RunnerName,
        nonce: &Secret,
        from: IpAddr,
    ) -> Result<Called<Secret>> {
        let refuse = |refusal: Refusal, reason: &str| {
            alarm(name, from, "claim", reason);
            Ok(Err(refusal))
        };
        let (store, now) = self.stored();
        let id = fingerprint("nonce", nonce.expose());
        // Before the backend is asked: whoever has no nonce causes no calls of a cloud.
        if let Err(refusal) = store.may_claim(name, id, now).await? {
            return refuse(refusal, &refusal.to_string());
        }
        let Some(pool) = self.pool_of(name).await else {
            return refuse(Refusal::Unknown, "its pool is not configured any more");
        };
        if !is_expected(&pool, name, from).await? {
            return refuse(Refusal::Forged, "the address is not the instance's");
        }
        match store.claim(name, id, now).await? {
            Ok(sealed) => {
                tracing::info!(runner = %name, %from, "an instance has claimed its secrets");
                unseal(nonce, sealed).map(Ok)
            }
            Err(refusal) => refuse(refusal, &refusal.to_string()),
        }
    }

    /// Takes the word of an instance on how far it is, and lets its pool act on it at once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn hear(
        &self,
        name: &RunnerName,
        token: &Secret,
        phase: Phase,
        exit_code: Option<u8>,
        from: IpAddr,
    ) -> Result<Called<()>> {
        let (store, _) = self.stored();
        let id = fingerprint("token", token.expose());
        match store.hear(name, id, phase.rank()).await? {
            Ok(pool) => {
                tracing::info!(runner = %name, ?phase, exit_code, "an instance reports");
                self.command(&pool, Command::Heard(name.clone(), phase))
                    .await;
                Ok(Ok(()))
            }
            // The last word of an instance that is being removed, with its own token.
            Err(refusal @ Refusal::Deleted) => {
                tracing::debug!(runner = %name, ?phase, "a late report was refused");
                Ok(Err(refusal))
            }
            Err(refusal) => {
                alarm(name, from, "phase", &refusal.to_string());
                Ok(Err(refusal))
            }
        }
    }
}

/// Whether the address fits: one of the configured networks, or else one that the backend shows
/// for the instance. A backend that shows none cannot tell.
///
/// # Errors
/// When the backend does not answer, or does not show the instance (yet): whoever calls can try
/// again, and nobody is served unseen.
async fn is_expected(pool: &PoolConfig, name: &RunnerName, from: IpAddr) -> Result<bool> {
    let networks = pool.services.callback.as_ref().map(|c| &c.networks);
    if let Some(networks) = networks.filter(|networks| !networks.is_empty()) {
        return Ok(networks.iter().any(|network| network.contains(from)));
    }
    let look = pool.manager.addresses(name.instance_id());
    let Ok(found) = tokio::time::timeout(LOOK_WITHIN, look).await else {
        let message = "the backend does not say in time where the instance is";
        return Err(Error::new(ErrorKind::TimedOut, message));
    };
    let addresses = found?.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "the backend does not show the instance",
        )
    })?;
    let from = from.to_canonical();
    let is_own = |own: &IpAddr| own.to_canonical() == from;
    Ok(addresses.is_empty() || addresses.iter().any(is_own))
}

fn alarm(runner: &RunnerName, from: IpAddr, call: &str, reason: &str) {
    tracing::error!(alarm = true, %runner, %from, call, reason, "a call of an instance was refused");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nonce_opens_what_it_sealed() {
        let (nonce, other) = (random_secret().unwrap(), random_secret().unwrap());
        let text = Secret::new("{\"files\":{}}");
        let sealed = seal(&nonce, &text).unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"files"));
        assert_eq!(
            unseal(&nonce, sealed.clone()).unwrap().expose(),
            text.expose()
        );
        unseal(&other, sealed.clone()).unwrap_err();
        let mut damaged = sealed;
        damaged[0] ^= 1;
        unseal(&nonce, damaged).unwrap_err();
        assert_ne!(
            fingerprint("nonce", nonce.expose()),
            fingerprint("claim key", nonce.expose())
        );
    }

    #[test]
    fn phases_go_forward() {
        assert!(Phase::Booted.rank() > 0);
        assert!(Phase::ShuttingDown.rank() > Phase::JobCompleted.rank());
        let phase: Phase = serde_json::from_str("\"job-started\"").unwrap();
        assert_eq!(phase, Phase::JobStarted);
    }
}
