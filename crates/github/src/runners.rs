//! Runners: registering, listing, removing.

use std::sync::PoisonError;

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, GitHubPath, Result};
use serde_json::json;

use crate::call::{Caching, Call, Safety};
use crate::model::{Deleted, JitRequest, JitRunner, Listing, Observed, RemoteRunner};
use crate::pages::{PER_PAGE, Pages};
use crate::{GitHub, urls, wire};

/// The id of the group `Default`, which every organization, enterprise and repository has.
const DEFAULT_GROUP_ID: u64 = 1;

impl GitHub {
    /// Registers one just-in-time runner.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when the name is taken; [`ErrorKind::InvalidRequest`] when
    /// GitHub refuses name or labels; [`ErrorKind::InvalidConfig`] when the group does not
    /// exist; [`ErrorKind::NotFound`] when the server has no just-in-time configs. The call is made again only when it certainly was not sent; with
    /// [`Effect::Unknown`](runner_manager_core::Effect::Unknown) a registration of this name
    /// may exist: look for it with [`runner_by_name`](Self::runner_by_name).
    pub async fn jit_config(&self, path: &GitHubPath, request: &JitRequest) -> Result<JitRunner> {
        let group = request.group.as_deref().or(path.group());
        let group_id = self.group_id(path, group).await?;
        let labels: Vec<&str> = request
            .labels
            .iter()
            .map(runner_manager_core::Label::as_str)
            .collect();
        let body = json!({
            "name": request.name,
            "runner_group_id": group_id,
            "labels": labels,
        });
        let rest = ["actions", "runners", "generate-jitconfig"];
        let url = urls::in_scope(&self.0.api, path, &rest, &[]);
        let call = Call::post(url, Some(body), Safety::Once, urls::needs(path));
        let answer = match self.send(path, &call).await {
            Ok(answer) => answer,
            Err(error) => {
                self.forget_groups();
                let error = self.explain_jit(path, error).await;
                return Err(error.with_context("runner", &request.name));
            }
        };
        let jit: wire::Jit = answer.json().map_err(|e| {
            // GitHub said yes, so the registration exists although its config is lost.
            e.with_effect(runner_manager_core::Effect::Unknown)
                .with_context("runner", &request.name)
        })?;
        let runner = jit.runner.read().unwrap_or_else(|odd| {
            // The registration is made: what else its record says does not matter.
            RemoteRunner {
                id: odd.id.unwrap_or(0),
                name: request.name.clone(),
                online: false,
                busy: false,
                labels: Vec::new(),
                ephemeral: Some(true),
            }
        });
        if runner.id == 0 {
            return Err(Error::new(
                ErrorKind::BadAnswer,
                "GitHub made a registration and does not name its id",
            )
            .with_effect(runner_manager_core::Effect::Unknown)
            .with_context("runner", &request.name));
        }
        Ok(JitRunner {
            runner,
            config: jit.encoded_jit_config,
        })
    }

    /// A server whose version has no just-in-time configs does not find them, although it gives
    /// registration tokens.
    pub(crate) async fn explain_jit(&self, path: &GitHubPath, error: Error) -> Error {
        if error.kind() != ErrorKind::NotFound || self.registration_token(path).await.is_err() {
            return error;
        }
        Error::new(
            ErrorKind::NotFound,
            "this GitHub has no just-in-time configs; set `registration = \"token\"` for the pool",
        )
        .with_source(error)
    }

    /// Every runner of a scope. Pages that did not change cost none of the rate limit.
    ///
    /// # Errors
    /// When any page fails: a list is never partial.
    pub async fn runners(&self, path: &GitHubPath) -> Result<Listing> {
        let observed = self.observe_runners(path).await?;
        match observed.gap {
            Some(gap) => Err(gap),
            None => Ok(observed.listing),
        }
    }

    /// The runners of a scope, as far as GitHub shows them: what was on any page holds, although
    /// the list changes while it is read or another page fails.
    ///
    /// # Errors
    /// When the first page cannot be read.
    pub async fn observe_runners(&self, path: &GitHubPath) -> Result<Observed> {
        let taken_at = Timestamp::now();
        let url = urls::in_scope(&self.0.api, path, &["actions", "runners"], &[]);
        let pages = Pages {
            url,
            caching: Caching::ByEtag,
            needs: urls::needs(path),
            shown: 0,
            size: PER_PAGE,
        };
        let found = self.gather::<wire::Runners>(path, &pages).await?;
        self.mark_seen(path);
        Ok(Observed {
            listing: Listing {
                runners: found.items,
                unread: found.unread,
                taken_at,
            },
            gap: found.gap,
        })
    }

    /// One runner by its id, or none when it does not exist. In a scope whose runners were never
    /// listed, none may also say that the credential may not see it.
    ///
    /// # Errors
    /// When GitHub cannot be asked or refuses; [`ErrorKind::BadAnswer`] for a record that lacks
    /// what decisions go by.
    pub async fn runner(&self, path: &GitHubPath, id: u64) -> Result<Option<RemoteRunner>> {
        let number = id.to_string();
        let rest = ["actions", "runners", &number];
        let url = urls::in_scope(&self.0.api, path, &rest, &[]);
        let answer = match self.send(path, &Call::get(url, urls::needs(path))).await {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            answer => answer?,
        };
        answer
            .json::<wire::Runner>()?
            .read()
            .map(Some)
            .map_err(|_| {
                Error::new(
                    ErrorKind::BadAnswer,
                    "GitHub gave a runner without its state",
                )
                .with_context("runner", id)
            })
    }

    /// The runner of exactly this name, letter case aside, as GitHub compares names.
    ///
    /// # Errors
    /// As [`runners`](Self::runners).
    pub async fn runner_by_name(
        &self,
        path: &GitHubPath,
        name: &str,
    ) -> Result<Option<RemoteRunner>> {
        let rest = ["actions", "runners"];
        let pages = Pages {
            url: urls::in_scope(&self.0.api, path, &rest, &[("name", name)]),
            caching: Caching::None,
            needs: urls::needs(path),
            shown: 0,
            size: PER_PAGE,
        };
        let found = self.gather::<wire::Runners>(path, &pages).await?;
        self.mark_seen(path);
        let is_it = |found: &str| found.eq_ignore_ascii_case(name);
        if let Some(runner) = found.items.into_iter().find(|runner| is_it(&runner.name)) {
            return Ok(Some(runner));
        }
        let unread = found.unread.into_iter();
        let unread = unread.filter(|odd| odd.name.as_deref().is_some_and(is_it));
        match (unread.filter_map(|odd| odd.id).next(), found.gap) {
            // It is there, and may have a job.
            (Some(id), _) => Ok(Some(RemoteRunner {
                id,
                name: name.to_owned(),
                online: true,
                busy: true,
                labels: Vec::new(),
                ephemeral: None,
            })),
            (None, Some(gap)) => Err(gap),
            (None, None) => Ok(None),
        }
    }

    /// Removes a registration.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when the runner has a job: keep its instance. A scope that the
    /// credential cannot see is [`ErrorKind::NotFound`], not [`Deleted::WasGone`].
    pub async fn delete_runner(&self, path: &GitHubPath, id: u64) -> Result<Deleted> {
        let id = id.to_string();
        let rest = ["actions", "runners", &id];
        let url = urls::in_scope(&self.0.api, path, &rest, &[]);
        let call = Call::delete(url, urls::needs(path));
        match self.send(path, &call).await {
            Ok(_) => Ok(Deleted::Deleted),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.confirm_seen(path).await?;
                Ok(Deleted::WasGone)
            }
            // The only reason that GitHub documents for a 422 here.
            Err(e) if e.kind() == ErrorKind::InvalidRequest => Err(Error::new(
                ErrorKind::Busy,
                "GitHub does not remove the runner while it has a job",
            )
            .with_source(e)),
            Err(e) => Err(e),
        }
    }

    /// GitHub answers 404 both for a runner that is gone and for a scope that may not be seen.
    async fn confirm_seen(&self, path: &GitHubPath) -> Result<()> {
        let seen = {
            let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.contains(&path.api_path())
        };
        if !seen {
            self.first_runner(path).await?;
        }
        Ok(())
    }

    /// The cheapest proof that the scope's runners can be read.
    pub(crate) async fn first_runner(&self, path: &GitHubPath) -> Result<()> {
        let rest = ["actions", "runners"];
        let url = urls::in_scope(&self.0.api, path, &rest, &[("per_page", "1")]);
        let call = Call::get_cached(url, urls::needs(path));
        self.send(path, &call).await?.json::<wire::Runners>()?;
        self.mark_seen(path);
        Ok(())
    }

    fn mark_seen(&self, path: &GitHubPath) {
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(path.api_path());
    }

    /// The id of a runner group by name.
    pub(crate) async fn group_id(&self, path: &GitHubPath, name: Option<&str>) -> Result<u64> {
        let Some(name) = name.filter(|name| !name.eq_ignore_ascii_case(GitHubPath::DEFAULT_GROUP))
        else {
            return Ok(DEFAULT_GROUP_ID);
        };
        if path.group().is_none() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("a repository has no runner groups; leave out the group `{name}`"),
            )
            .with_context("scope", path));
        }
        let key = (path.api_path(), name.to_lowercase());
        let known = {
            let groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
            groups.get(&key).copied()
        };
        if let Some(id) = known {
            return Ok(id);
        }
        let pages = Pages {
            url: urls::in_scope(&self.0.api, path, &["actions", "runner-groups"], &[]),
            caching: Caching::ByEtag,
            needs: urls::needs(path),
            shown: 0,
            size: PER_PAGE,
        };
        let groups = self.all::<wire::Groups>(path, &pages).await?;
        let found = groups
            .iter()
            .find(|group| group.name.to_lowercase() == key.1);
        let Some(found) = found else {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("there is no runner group `{name}`; make it on GitHub or correct the name"),
            )
            .with_context("scope", path));
        };
        let mut known = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(key, found.id);
        Ok(found.id)
    }

    /// A group may have been made anew under its old name.
    fn forget_groups(&self) {
        let mut groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.clear();
    }
}
