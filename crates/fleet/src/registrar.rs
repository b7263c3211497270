//! Runners on GitHub's side: how they register, and how a registration goes.

use runner_manager_core::{Error, ErrorKind, Result, RunnerCredential, RunnerName};
use runner_manager_github::{Deleted, JitRequest, JitRunner};

use crate::Registration;
use crate::operation::Context;

/// What is known of the registration of a runner that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enrolment {
    /// GitHub's id of it is not known: it is looked for by name.
    Unknown,
    Id(u64),
    /// The runner's job was seen, and its instance has ended since: GitHub removes such a
    /// registration by itself. What it does not remove is found by the sweep.
    Spent,
}

impl From<Option<u64>> for Enrolment {
    fn from(id: Option<u64>) -> Self {
        id.map_or(Self::Unknown, Self::Id)
    }
}

impl Context {
    /// What a new runner registers with, and GitHub's id where it is registered already.
    pub(crate) async fn credential(
        &self,
        name: &RunnerName,
    ) -> Result<(RunnerCredential, Option<u64>)> {
        match self.pool.registration {
            Registration::Jit => {
                let jit = self.register(name).await?;
                Ok((RunnerCredential::JitConfig(jit.config), Some(jit.runner.id)))
            }
            Registration::Token => {
                let (shared, path) = (&self.shared, &self.pool.github_path);
                let token = shared.tokens.get("registration", shared, path).await?;
                let url = shared.github.scope_url(path);
                let url = url.parse().map_err(|e| {
                    Error::new(ErrorKind::InvalidConfig, "the scope's address is no URL")
                        .with_context("url", &url)
                        .with_source(e)
                })?;
                Ok((RunnerCredential::RegistrationToken { url, token }, None))
            }
        }
    }

    /// A just-in-time config. The name is random, so that GitHub can know it only from an
    /// attempt whose answer was lost: that registration is removed, and the request made once
    /// more.
    async fn register(&self, name: &RunnerName) -> Result<JitRunner> {
        let (github, path) = (&self.shared.github, &self.pool.github_path);
        let request = JitRequest {
            name: name.to_string(),
            group: path.group().map(str::to_owned),
            labels: self.pool.runner_config().labels,
        };
        match github.jit_config(path, &request).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if let Some(stale) = github.runner_by_name(path, &request.name).await? {
                    github.delete_runner(path, stale.id).await?;
                }
                github.jit_config(path, &request).await
            }
            answer => answer,
        }
    }

    /// Takes a runner off GitHub. One that is not there is fine: an ephemeral runner goes by
    /// itself after its job.
    pub(crate) async fn unregister(&self, name: &RunnerName, enrolment: Enrolment) -> Result<()> {
        let (github, path) = (&self.shared.github, &self.pool.github_path);
        let id = match enrolment {
            Enrolment::Spent => None,
            Enrolment::Id(id) => Some(id),
            Enrolment::Unknown => github
                .runner_by_name(path, &name.to_string())
                .await?
                .map(|r| r.id),
        };
        match id {
            Some(id) => match github.delete_runner(path, id).await? {
                Deleted::Deleted | Deleted::WasGone => Ok(()),
            },
            None => Ok(()),
        }
    }
}
