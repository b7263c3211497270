//! Runners on GitHub's side: how they register, and how a registration goes.

use runner_manager_core::{Error, ErrorKind, Result, RunnerCredential, RunnerName};
use runner_manager_github::{Deleted, JitRequest, JitRunner, ScaleSetSpec};

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
                let token = shared.tokens.get(shared, path).await?;
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
        if let Some(set) = self.pool.scale_set() {
            return self.register_in(&set, name.as_str()).await;
        }
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

    /// The same of a scale set. A runner of another set is nothing of ours.
    async fn register_in(&self, set: &ScaleSetSpec, name: &str) -> Result<JitRunner> {
        let (github, path) = (&self.shared.github, &self.pool.github_path);
        match github.scale_set_jit(path, set, name).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let own = github.scale_set(path, set).await?.id;
                match github.scale_set_runner(path, name).await? {
                    Some(stale) if stale.scale_set == Some(own) => {
                        github.remove_scale_set_runner(path, stale.id).await?;
                    }
                    Some(_) => return Err(error),
                    None => {}
                }
                github.scale_set_jit(path, set, name).await
            }
            answer => answer,
        }
    }

    /// Takes a runner off GitHub. One that is not there is fine: an ephemeral runner goes by
    /// itself after its job.
    pub(crate) async fn unregister(&self, name: &RunnerName, enrolment: Enrolment) -> Result<()> {
        let (github, path) = (&self.shared.github, &self.pool.github_path);
        let (name, in_set) = (name.to_string(), self.pool.scale_set().is_some());
        let id = match enrolment {
            Enrolment::Spent => None,
            Enrolment::Id(id) => Some(id),
            Enrolment::Unknown if in_set => {
                github.scale_set_runner(path, &name).await?.map(|r| r.id)
            }
            Enrolment::Unknown => github.runner_by_name(path, &name).await?.map(|r| r.id),
        };
        let deleted = match id {
            None => return Ok(()),
            Some(id) if in_set => github.remove_scale_set_runner(path, id).await?,
            Some(id) => github.delete_runner(path, id).await?,
        };
        match deleted {
            Deleted::Deleted | Deleted::WasGone => Ok(()),
        }
    }
}
