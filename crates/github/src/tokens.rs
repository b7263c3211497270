//! The tokens that `config.sh` takes.

use runner_manager_core::{ErrorKind, GitHubPath, RemoveToken, Result};

use crate::call::{Call, Safety};
use crate::model::{RegistrationToken, RemovalToken};
use crate::{GitHub, urls, wire};

impl GitHub {
    /// A token that registers runners, good for an hour. Prefer
    /// [`jit_config`](Self::jit_config), which serves one runner.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] or [`ErrorKind::PermissionDenied`] when the credential may not
    /// manage the scope's runners.
    pub async fn registration_token(&self, path: &GitHubPath) -> Result<RegistrationToken> {
        let made = self.token(path, "registration-token").await?;
        Ok(RegistrationToken {
            token: made.token,
            expires_at: made.expires_at,
        })
    }

    /// A token with which runners take themselves off GitHub, good for an hour.
    ///
    /// # Errors
    /// As [`registration_token`](Self::registration_token).
    pub async fn remove_token(&self, path: &GitHubPath) -> Result<RemovalToken> {
        let made = self.token(path, "remove-token").await?;
        Ok(RemovalToken {
            token: RemoveToken::new(made.token),
            expires_at: made.expires_at,
        })
    }

    async fn token(&self, path: &GitHubPath, kind: &'static str) -> Result<wire::Token> {
        let rest = ["actions", "runners", kind];
        let url = urls::in_scope(&self.0.api, path, &rest, &[]);
        let call = Call::post(url, None, Safety::Harmless, urls::needs(path));
        let answer = self.send(path, &call).await?;
        let token: wire::Token = answer.json()?;
        if token.token.expose().is_empty() {
            return Err(runner_manager_core::Error::new(
                ErrorKind::BadAnswer,
                "GitHub gave an empty token",
            )
            .with_context("request", call.label()));
        }
        Ok(token)
    }
}
