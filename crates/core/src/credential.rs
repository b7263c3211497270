//! The credentials that pass through the contract.

use url::Url;

use crate::Secret;

/// What a runner registers with. It serves one runner.
#[derive(Debug, Clone)]
pub enum RunnerCredential {
    /// A registration token, for `config.sh`. It is good for an hour and for any number of
    /// runners: prefer the other.
    RegistrationToken {
        /// What `config.sh --url` gets: the web page of the scope.
        url: Url,
        /// The token.
        token: Secret,
    },
    /// A just-in-time config, for `run.sh`: base64 of a JSON map, which holds the private key
    /// of this one runner.
    JitConfig(Secret),
    /// A nonce with which the instance claims one of the others from the manager, once and
    /// before a deadline. What the instance boots with then holds nothing that a job could use.
    Claim {
        /// Where to claim: the runner's own address at the manager, `https`.
        url: Url,
        /// The nonce.
        nonce: Secret,
    },
}

/// A token with which a runner may take itself off GitHub.
///
/// It never reaches a command line of an instance.
#[derive(Debug, Clone)]
pub struct RemoveToken(Secret);

impl RemoveToken {
    /// Wraps a token.
    #[must_use]
    pub fn new(token: Secret) -> Self {
        Self(token)
    }

    /// No token: the caller takes the registration off GitHub itself, and no deletion waits for
    /// GitHub.
    #[must_use]
    pub fn absent() -> Self {
        Self(Secret::new(""))
    }

    /// The token; empty where there is none.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}
