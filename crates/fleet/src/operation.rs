//! What changes the world: launches, removals, sweeps. Each stores its intent first, and may be
//! cut off anywhere: the next start finds the intent and the facts.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use runner_manager_core::{
    Clock, CloudRunnerInstance, CreateRunner, Error, ErrorKind, GitHubPath, RemoveToken, Result,
    RunnerName, Secret,
};
use runner_manager_github::GitHub;
use runner_manager_store::{RunnerState, Store};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::PoolConfig;
use crate::chance::Chance;
use crate::decide::{Order, Why};
use crate::events::{Events, Reconciliation};
use crate::pool::{Class, Side};
use crate::queues::Queues;
use crate::recorder::FailedRunner;
use crate::registrar::Enrolment;

/// What all pools share.
pub(crate) struct Shared {
    pub(crate) github: GitHub,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tokens: Tokens,
    /// What waits in all scopes.
    pub(crate) queues: Queues,
    pub(crate) chance: Chance,
}

/// What an operation works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Arc<PoolConfig>,
    /// Bounds the removals that go on at once, with the questions before them.
    pub(crate) removals: Arc<Semaphore>,
}

/// What became of an operation.
pub(crate) enum Done {
    Launched {
        name: RunnerName,
        github_id: Option<u64>,
    },
    LaunchFailed {
        name: RunnerName,
        error: Error,
        side: Side,
        /// When the launch began.
        began: Instant,
        undone: Undone,
    },
    /// With the console's text, where a failed runner was recorded.
    Removed {
        name: RunnerName,
        console: Option<(Class, String)>,
    },
    /// GitHub says that a job runs: the runner stays.
    KeptBusy {
        name: RunnerName,
    },
    RemovalFailed {
        name: RunnerName,
        error: Error,
    },
    Asked {
        name: RunnerName,
        found: Result<Option<CloudRunnerInstance>>,
    },
    Listed {
        began: Instant,
        runners: Result<Vec<CloudRunnerInstance>>,
    },
    Swept,
}

/// What became of the rest of a failed launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undone {
    /// Nothing is left.
    Gone,
    /// The launch did succeed, although its answer was an error: a job runs already.
    KeptBusy,
    /// Something may be left; the removal is tried again.
    Later,
}

/// Registration tokens by scope: good for an hour, and so not asked for each time.
#[derive(Default)]
pub(crate) struct Tokens {
    /// The token and its end, by scope.
    cached: Mutex<HashMap<String, (Secret, Timestamp)>>,
}

impl Tokens {
    /// Less than this before its end a token is not used any more.
    const MARGIN: SignedDuration = SignedDuration::from_mins(5);

    /// A registration token of a scope.
    pub(crate) async fn get(&self, shared: &Shared, path: &GitHubPath) -> Result<Secret> {
        let key = path.api_path();
        let mut cached = self.cached.lock().await;
        if let Some((token, expires_at)) = cached.get(&key)
            && expires_at.duration_since(shared.clock.now()) > Self::MARGIN
        {
            return Ok(token.clone());
        }
        let fresh = shared.github.registration_token(path).await?;
        cached.insert(key, (fresh.token.clone(), fresh.expires_at));
        Ok(fresh.token)
    }
}

impl Context {
    fn store(&self) -> &Store {
        &self.shared.store
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    pub(crate) fn events(&self) -> Events<'_> {
        Events {
            store: self.store(),
            github: &self.shared.github,
            file: self.pool.services.events_file.as_ref(),
            pool: &self.pool.name,
            scope: &self.pool.github_path,
            repositories: &self.pool.repositories,
            now: self.now(),
        }
    }

    /// Launches a runner that the store holds as requested.
    pub(crate) async fn launch(self, name: RunnerName) -> Done {
        let (mut github_id, mut side) = (None, Side::Other);
        let began = Instant::now();
        let error = match self.try_launch(&name, &mut github_id, &mut side).await {
            Ok(()) => return Done::Launched { name, github_id },
            Err(error) => error,
        };
        tracing::warn!(pool = self.pool.name, runner = %name, %error, "cannot launch a runner");
        let note = format!("cannot launch: {error}");
        self.record_launch(&name, &error).await;
        // An error does not say that nothing was launched: what runs may have a job by now.
        let undone = self
            .take_away(&name, &note, Order::RegistrationFirst, github_id.into())
            .await;
        let undone = match undone {
            Ok(Removal::Gone) => Undone::Gone,
            Ok(Removal::KeptBusy) => Undone::KeptBusy,
            Err(error) => {
                tracing::warn!(pool = self.pool.name, runner = %name, %error, "cannot undo a launch yet");
                Undone::Later
            }
        };
        Done::LaunchFailed {
            name,
            error,
            side,
            began,
            undone,
        }
    }

    /// `side` tells who was called last.
    async fn try_launch(
        &self,
        name: &RunnerName,
        github_id: &mut Option<u64>,
        side: &mut Side,
    ) -> Result<()> {
        self.store()
            .advance(name, RunnerState::Launching, self.now(), None)
            .await?;
        let github = self.pool.runner_config();
        *side = Side::GitHub;
        let (credential, id) = self.credential(name).await?;
        *github_id = id;
        *side = Side::Other;
        let mut support = self.pool.support.clone();
        if let Some(policy) = &self.pool.services.repo_policy {
            support.repo_policy_compliance = Some(policy.buy().await?);
        }
        let request = CreateRunner {
            id: name.instance_id().clone(),
            credential: self.hand_over(name, credential, &support).await?,
            github,
            support,
        };
        *side = Side::Backend;
        self.pool.manager.create_runner(request).await?;
        *side = Side::Other;
        self.store().launched(name, id, self.now()).await?;
        Ok(())
    }

    /// Removes a runner, in the order asked for. What did not come online is recorded before.
    pub(crate) async fn remove(
        self,
        name: RunnerName,
        why: Why,
        order: Order,
        enrolment: Enrolment,
        failed: Option<FailedRunner>,
    ) -> Done {
        // Closed never: the semaphore lives as long as its pool's operations.
        let _permit = self.removals.acquire().await;
        if why == Why::Suspect && self.has_job(&name).await {
            return match self.keep_busy(&name).await {
                Ok(_) => Done::KeptBusy { name },
                Err(error) => Done::RemovalFailed { name, error },
            };
        }
        let console = match failed {
            Some(failed) => {
                let class = failed.class;
                let text = self.record_runner(&name, why, failed).await;
                text.map(|text| (class, text))
            }
            None => None,
        };
        tracing::info!(pool = self.pool.name, runner = %name, reason = why.as_str(), "remove runner");
        match self
            .finish_and_take_away(&name, why, order, enrolment)
            .await
        {
            Ok(Removal::Gone) => Done::Removed { name, console },
            Ok(Removal::KeptBusy) => Done::KeptBusy { name },
            Err(error) => {
                tracing::warn!(pool = self.pool.name, runner = %name, %error, "cannot remove a runner yet");
                Done::RemovalFailed { name, error }
            }
        }
    }

    /// Whether a job runs on a runner's instance, where that can be seen: GitHub, which shows the
    /// runner as idle, may be wrong.
    async fn has_job(&self, name: &RunnerName) -> bool {
        let found = self.pool.manager.get_runner(name.instance_id()).await;
        match found {
            Ok(instance) => instance.is_some_and(|instance| instance.busy == Some(true)),
            Err(error) => {
                tracing::debug!(pool = self.pool.name, runner = %name, %error, "cannot see whether a job runs");
                false
            }
        }
    }

    async fn finish_and_take_away(
        &self,
        name: &RunnerName,
        why: Why,
        order: Order,
        enrolment: Enrolment,
    ) -> Result<Removal> {
        if why == Why::Ended {
            self.store()
                .advance(name, RunnerState::Finished, self.now(), None)
                .await?;
        }
        self.take_away(name, why.as_str(), order, enrolment).await
    }

    async fn take_away(
        &self,
        name: &RunnerName,
        note: &str,
        order: Order,
        enrolment: Enrolment,
    ) -> Result<Removal> {
        let from = self
            .store()
            .advance(name, RunnerState::Deleting, self.now(), Some(note))
            .await?;
        // What was only asked for never came to GitHub.
        let may_be_registered = from != RunnerState::Requested;
        if order == Order::RegistrationFirst && may_be_registered {
            match self.unregister(name, enrolment).await {
                Err(error) if error.kind() == ErrorKind::Busy => {
                    return self.keep_busy(name).await;
                }
                outcome => outcome?,
            }
        }
        let token = RemoveToken::absent();
        let metrics = self
            .pool
            .manager
            .delete_runner(name.instance_id(), &token)
            .await?;
        if let Some(metrics) = metrics {
            self.events().of_metrics(&metrics).await?;
        }
        if order == Order::InstanceFirst && may_be_registered {
            match self.unregister(name, enrolment).await {
                // GitHub has not noticed yet that the instance is gone, which takes it minutes.
                // The place is free; the sweep takes the registration when GitHub lets it.
                Err(error) if error.kind() == ErrorKind::Busy => {
                    tracing::info!(pool = self.pool.name, runner = %name, "registration is left to the sweep");
                }
                outcome => outcome?,
            }
        }
        self.store()
            .advance(name, RunnerState::Gone, self.now(), None)
            .await?;
        Ok(Removal::Gone)
    }

    async fn keep_busy(&self, name: &RunnerName) -> Result<Removal> {
        let note = Some("a job runs");
        let busy = RunnerState::Busy;
        self.store().advance(name, busy, self.now(), note).await?;
        Ok(Removal::KeptBusy)
    }

    /// Asks the backend for one runner, which its list did not hold.
    pub(crate) async fn ask(self, name: RunnerName) -> Done {
        // Closed never: the semaphore lives as long as its pool's operations.
        let _permit = self.removals.acquire().await;
        let found = self.pool.manager.get_runner(name.instance_id()).await;
        Done::Asked { name, found }
    }

    /// Asks the backend for its runners.
    pub(crate) async fn list(self) -> Done {
        let began = Instant::now();
        let runners = self.pool.manager.get_runners(None).await;
        Done::Listed { began, runners }
    }

    /// Removes orphans: the given registrations and instances, and what the backend itself
    /// finds. Failures are logged; the next sweep tries again.
    pub(crate) async fn sweep(
        self,
        registrations: Vec<(u64, RunnerName)>,
        instances: Vec<RunnerName>,
        mut event: Reconciliation,
    ) -> Done {
        let began = Instant::now();
        self.clean(registrations, instances).await;
        event.took(began.elapsed());
        self.events().reconciliation(&event).await;
        Done::Swept
    }

    async fn clean(&self, registrations: Vec<(u64, RunnerName)>, instances: Vec<RunnerName>) {
        let pool = self.pool.name.as_str();
        for (id, name) in registrations {
            tracing::info!(pool, runner = %name, "remove orphan registration");
            let deleted = self
                .shared
                .github
                .delete_runner(&self.pool.github_path, id)
                .await;
            if let Err(error) = deleted {
                tracing::warn!(pool, runner = %name, %error, "cannot remove an orphan registration");
            }
        }
        let token = RemoveToken::absent();
        for name in instances {
            tracing::info!(pool, runner = %name, "remove orphan instance");
            let deleted = self
                .pool
                .manager
                .delete_runner(name.instance_id(), &token)
                .await;
            if let Err(error) = deleted {
                tracing::warn!(pool, runner = %name, %error, "cannot remove an orphan instance");
            }
        }
        let mut cleanup = self.pool.manager.cleanup(&token);
        while let Some(item) = cleanup.next().await {
            let recorded = match item {
                Ok(metrics) => self.events().of_metrics(&metrics).await,
                Err(error) => Err(error),
            };
            if let Err(error) = recorded {
                tracing::warn!(pool, %error, "cleanup left something for the next time");
            }
        }
    }
}

enum Removal {
    Gone,
    KeptBusy,
}
