//! Scale sets and their runners.

use std::sync::PoisonError;

use runner_manager_core::{Effect, Error, ErrorKind, GitHubPath, Label, Result};
use serde_json::json;

use super::{SETS, ScaleSet, ScaleSetRunner, ScaleSetSpec, Statistics, wire};
use crate::call::{Call, Safety};
use crate::model::{Deleted, JitRunner, RemoteRunner};
use crate::{GitHub, urls};

const AGENTS: [&str; 5] = ["_apis", "distributedtask", "pools", "0", "agents"];
/// The id of the group `Default`.
const DEFAULT_GROUP_ID: u64 = 1;

impl GitHub {
    /// The scale set of this name and group: adopted when there is one, with its labels made
    /// those of the request, or made.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when the runner group does not exist;
    /// [`ErrorKind::PermissionDenied`] or [`ErrorKind::NotFound`] when the credential may not
    /// manage the scope's runners.
    pub async fn scale_set(&self, path: &GitHubPath, spec: &ScaleSetSpec) -> Result<ScaleSet> {
        let group = self.service_group(path).await?;
        let found = match self.find_set(path, group, &spec.name).await? {
            Some(found) => found,
            None => match self.make_set(path, group, spec).await {
                // Made by another manager since it was looked for.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    self.find_set(path, group, &spec.name).await?.ok_or(error)?
                }
                made => made?,
            },
        };
        let wanted: Vec<&str> = spec.labels.iter().map(Label::as_str).collect();
        let same = found.labels.len() == wanted.len()
            && wanted.iter().all(|label| {
                let is = |known: &String| known.eq_ignore_ascii_case(label);
                found.labels.iter().any(is)
            });
        let set = if same {
            found
        } else {
            let body = wire::set_body(group, spec);
            let id = found.id.to_string();
            let answer = self.service(path, |base| {
                let segments = [SETS.as_slice(), &[&id]].concat();
                Call::patch(base.join(&segments, &[]), body.clone(), urls::needs(path))
            });
            answer.await?.json::<wire::Set>()?.into()
        };
        let key = set_key(path, &spec.name);
        let mut known = self.0.sets.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, set.id);
        Ok(set)
    }

    /// A scale set with its statistics of now; none when it is gone.
    ///
    /// # Errors
    /// When the service cannot be asked or refuses.
    pub async fn scale_set_statistics(
        &self,
        path: &GitHubPath,
        id: u64,
    ) -> Result<Option<Statistics>> {
        let id = id.to_string();
        let segments = [SETS.as_slice(), &[&id]].concat();
        let answer = self.service(path, |base| {
            Call::get(base.join(&segments, &[]), urls::needs(path))
        });
        match answer.await {
            Ok(answer) => Ok(answer.json::<wire::Set>()?.statistics),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The requests of the jobs that are offered to a scale set and that nobody has acquired yet:
    /// each is told once in a message, and is then only listed here.
    ///
    /// # Errors
    /// When the service cannot be asked or refuses.
    pub async fn acquirable_jobs(&self, path: &GitHubPath, id: u64) -> Result<Vec<u64>> {
        let id = id.to_string();
        let segments = [SETS.as_slice(), &[&id, "acquirablejobs"]].concat();
        let answer = self.service(path, |base| {
            Call::get(base.join(&segments, &[]), urls::needs(path))
        });
        let answer = answer.await?;
        if answer.body.is_empty() {
            return Ok(Vec::new());
        }
        let offers = answer.json::<wire::List<wire::Offer>>()?.value;
        Ok(offers.into_iter().map(|offer| offer.request_id).collect())
    }

    /// Removes a scale set. Its runners and their jobs go with it.
    ///
    /// # Errors
    /// When the service cannot be asked or refuses.
    pub async fn delete_scale_set(&self, path: &GitHubPath, id: u64) -> Result<Deleted> {
        let id = id.to_string();
        let segments = [SETS.as_slice(), &[&id]].concat();
        self.gone(path, &segments).await
    }

    /// Registers one just-in-time runner in a scale set.
    ///
    /// # Errors
    /// As [`jit_config`](Self::jit_config).
    pub async fn scale_set_jit(
        &self,
        path: &GitHubPath,
        spec: &ScaleSetSpec,
        name: &str,
    ) -> Result<JitRunner> {
        let known = {
            let known = self.0.sets.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&set_key(path, &spec.name)).copied()
        };
        let id = match known {
            Some(id) => id,
            None => self.scale_set(path, spec).await?.id,
        }
        .to_string();
        let segments = [SETS.as_slice(), &[&id, "generatejitconfig"]].concat();
        let body = json!({ "name": name, "workFolder": "_work" });
        let answer = self.service(path, |base| {
            let url = base.join(&segments, &[]);
            Call::post(url, Some(body.clone()), Safety::Once, urls::needs(path))
        });
        let answer = answer.await.map_err(|e| {
            // The set may have been deleted, and made anew under its name.
            let mut known = self.0.sets.lock().unwrap_or_else(PoisonError::into_inner);
            known.remove(&set_key(path, &spec.name));
            e.with_context("runner", name)
        })?;
        let jit: wire::Jit = answer
            .json()
            .map_err(|e| e.with_effect(Effect::Unknown).with_context("runner", name))?;
        Ok(JitRunner {
            runner: RemoteRunner {
                id: jit.runner.id,
                name: jit.runner.name,
                online: false,
                busy: false,
                labels: Vec::new(),
                ephemeral: Some(true),
            },
            config: jit.config,
        })
    }

    /// The runner of this name, whatever scale set it is in.
    ///
    /// # Errors
    /// When the service cannot be asked or refuses.
    pub async fn scale_set_runner(
        &self,
        path: &GitHubPath,
        name: &str,
    ) -> Result<Option<ScaleSetRunner>> {
        let answer = self.service(path, |base| {
            Call::get(
                base.join(&AGENTS, &[("agentName", name)]),
                urls::needs(path),
            )
        });
        let found: wire::List<wire::Agent> = answer.await?.json()?;
        let is = |agent: &wire::Agent| agent.name.eq_ignore_ascii_case(name);
        Ok(found.value.into_iter().find(is).map(Into::into))
    }

    /// Removes a runner.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when it has a job: keep its instance.
    pub async fn remove_scale_set_runner(&self, path: &GitHubPath, id: u64) -> Result<Deleted> {
        let id = id.to_string();
        let segments = [AGENTS.as_slice(), &[&id]].concat();
        self.gone(path, &segments).await
    }

    pub(super) async fn gone(&self, path: &GitHubPath, segments: &[&str]) -> Result<Deleted> {
        let answer = self.service(path, |base| {
            Call::delete(base.join(segments, &[]), urls::needs(path))
        });
        match answer.await {
            Ok(_) => Ok(Deleted::Deleted),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Deleted::WasGone),
            Err(error) => Err(error),
        }
    }

    async fn find_set(
        &self,
        path: &GitHubPath,
        group: u64,
        name: &str,
    ) -> Result<Option<ScaleSet>> {
        let group = group.to_string();
        let query = [("runnerGroupId", group.as_str()), ("name", name)];
        let answer = self.service(path, |base| {
            Call::get(base.join(&SETS, &query), urls::needs(path))
        });
        let found: wire::List<wire::Set> = answer.await?.json()?;
        let is = |set: &wire::Set| set.name.eq_ignore_ascii_case(name);
        Ok(found.value.into_iter().find(is).map(Into::into))
    }

    async fn make_set(
        &self,
        path: &GitHubPath,
        group: u64,
        spec: &ScaleSetSpec,
    ) -> Result<ScaleSet> {
        let body = wire::set_body(group, spec);
        // Twice is harmless: the name is unique, and the second is refused.
        let answer = self.service(path, |base| {
            let url = base.join(&SETS, &[]);
            Call::post(
                url,
                Some(body.clone()),
                Safety::Repeatable,
                urls::needs(path),
            )
        });
        let set: ScaleSet = answer.await?.json::<wire::Set>()?.into();
        tracing::info!(scope = %path, name = set.name, id = set.id, "scale set made");
        Ok(set)
    }

    /// The service's id of the scope's runner group.
    async fn service_group(&self, path: &GitHubPath) -> Result<u64> {
        let default = GitHubPath::DEFAULT_GROUP;
        let named = path.group().filter(|g| !g.eq_ignore_ascii_case(default));
        let Some(name) = named else {
            return Ok(DEFAULT_GROUP_ID);
        };
        let segments = ["_apis", "runtime", "runnergroups", ""];
        let answer = self.service(path, |base| {
            Call::get(
                base.join(&segments, &[("groupName", name)]),
                urls::needs(path),
            )
        });
        let found: wire::List<wire::Group> = answer.await?.json()?;
        let is = |group: &&wire::Group| group.name.eq_ignore_ascii_case(name);
        found.value.iter().find(is).map(|g| g.id).ok_or_else(|| {
            let message =
                format!("there is no runner group `{name}`; make it on GitHub or correct the name");
            Error::new(ErrorKind::InvalidConfig, message).with_context("scope", path)
        })
    }
}

fn set_key(path: &GitHubPath, name: &str) -> (String, String) {
    let group = path.group().unwrap_or_default();
    let scope = format!("{} {group}", path.api_path());
    (scope.to_lowercase(), name.to_lowercase())
}
