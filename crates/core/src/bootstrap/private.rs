//! The files of an instance that hold secrets.

use std::fmt;

use super::files::{BootFile, assignments, dotenv, file};
use super::reveal::Reveal;
use super::{check, environment, services};
use crate::{Error, ErrorKind, LaunchSpec, Result, RunnerCredential, Secret, SupportServiceConfig};

/// What an instance needs and a job must not find in its user-data. Without a claim it comes
/// with user-data; with one it is the manager's answer to it.
#[derive(Clone)]
pub struct BootSecrets(Vec<BootFile>);

impl BootSecrets {
    /// The secrets of one runner.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a credential or token that cannot be one, and for a
    /// claim in the credential's place.
    pub fn new(credential: &RunnerCredential, support: &SupportServiceConfig) -> Result<Self> {
        Self::render(credential, support, Reveal::Secrets)
    }

    pub(super) fn shown(spec: &LaunchSpec, reveal: Reveal) -> Result<Self> {
        Self::render(&spec.credential, &spec.support, reveal)
    }

    fn render(
        credential: &RunnerCredential,
        support: &SupportServiceConfig,
        reveal: Reveal,
    ) -> Result<Self> {
        let (mode, url, secret) = match credential {
            RunnerCredential::JitConfig(secret) => ("jit", "", secret),
            RunnerCredential::RegistrationToken { url, token } => ("token", url.as_str(), token),
            RunnerCredential::Claim { .. } => {
                let message = "a claim is answered with a credential, not with another claim";
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
        };
        check::credential(secret)?;
        let registration = assignments("RM_", [("MODE", mode), ("URL", url)])?;
        let mut files = vec![
            file("registration.sh", "0644", registration),
            file("credential", "0600", line(secret, reveal)),
        ];
        if let Some(policy) = &support.repo_policy_compliance {
            check::credential(&policy.token)?;
            files.push(file("policy-token", "0600", line(&policy.token, reveal)));
        }
        let env = environment::private(support, reveal);
        if !env.is_empty() {
            let pairs = || {
                env.iter()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
            };
            files.push(file("secrets.sh", "0600", assignments("export ", pairs())?));
            files.push(file("secrets.env", "0600", dotenv(pairs())));
        }
        files.extend(services::private(support, reveal));
        Ok(Self(files))
    }

    /// Adds the token with which this instance reports its phases.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] when it cannot be a token.
    pub fn with_callback_token(mut self, token: &Secret) -> Result<Self> {
        check::credential(token)?;
        let content = line(token, Reveal::Secrets);
        self.0.push(file("callback-token", "0600", content));
        Ok(self)
    }

    /// The answer to a claim: `{"files": {NAME: CONTENT}}`.
    #[must_use]
    pub fn to_json(&self) -> Secret {
        let named = self
            .0
            .iter()
            .map(|file| (file.name.to_owned(), file.content.clone().into()));
        let files: serde_json::Map<String, serde_json::Value> = named.collect();
        Secret::new(serde_json::json!({ "files": files }).to_string())
    }

    pub(super) fn into_files(self) -> Vec<BootFile> {
        self.0
    }
}

impl fmt::Debug for BootSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|file| file.name);
        f.debug_list().entries(names).finish()
    }
}

fn line(secret: &Secret, reveal: Reveal) -> String {
    format!("{}\n", reveal.secret(secret))
}
