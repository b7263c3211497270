//! The contract.

use std::net::IpAddr;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::{
    Capability, CloudRunnerInstance, CloudRunnerState, Error, ErrorKind, GitHubRunnerConfig, Guest,
    InstanceId, NamePrefix, RemoveToken, Result, RunnerCredential, RunnerMetrics,
    SupportServiceConfig,
};

/// What [`CloudRunnerManager::create_runner`] needs.
#[derive(Debug, Clone)]
pub struct CreateRunner {
    /// The id, chosen by the caller so that the intent can be stored before anything exists.
    pub id: InstanceId,
    /// What the runner registers with; it serves this one runner.
    pub credential: RunnerCredential,
    /// What the runner registers as.
    pub github: GitHubRunnerConfig,
    /// The services around it.
    pub support: SupportServiceConfig,
}

/// The runners of one name prefix on one cloud.
///
/// Every method may be called at any time and from several tasks at once. Every future may be
/// dropped: what it began is found by the next [`cleanup`](Self::cleanup). A crash of the
/// manager at any point is the same as a dropped future.
#[async_trait]
pub trait CloudRunnerManager: Send + Sync {
    /// The prefix that marks what belongs to this manager.
    fn name_prefix(&self) -> &NamePrefix;

    /// What the backend can do.
    fn capability(&self) -> &Capability;

    /// Creates the instance that hosts a runner, and starts the runner on it.
    ///
    /// # Behavior
    /// - Idempotent by instance id: a second call adopts or finishes what the first began, and
    ///   never makes a second instance.
    /// - Returns when the instance exists; it need not have booted.
    /// - Ends before the launch deadline ([`crate::Timings::launch_timeout`]).
    ///
    /// # On failure
    /// Nothing is left behind, and the effect is [`crate::Effect::None`]; or the effect says
    /// [`crate::Effect::Unknown`] or [`crate::Effect::Partial`] and the context names what could
    /// not be removed.
    async fn create_runner(&self, request: CreateRunner) -> Result<InstanceId>;

    /// One runner, with its health.
    ///
    /// # Behavior
    /// An unknown id is `Ok(None)`. Cheap: at most one call to the cloud and one to the guest.
    ///
    /// # On failure
    /// Changes nothing.
    async fn get_runner(&self, id: &InstanceId) -> Result<Option<CloudRunnerInstance>>;

    /// All runners of this prefix in the given states; `None` is all states.
    ///
    /// # Behavior
    /// - The number of list calls does not grow with the number of runners; guests are asked
    ///   side by side, a bounded number at a time.
    /// - What another prefix owns, or nobody can be proven to own, is not shown.
    ///
    /// # On failure
    /// Changes nothing. A guest that cannot be asked is not a failure: its runner's health says
    /// so.
    async fn get_runners(
        &self,
        states: Option<&[CloudRunnerState]>,
    ) -> Result<Vec<CloudRunnerInstance>>;

    /// Deletes a runner, busy or not, with everything that belongs to it.
    ///
    /// # Behavior
    /// - An unknown id is `Ok(None)`, and so is a second call.
    /// - Otherwise the metrics that the runner left, read before the deletion.
    /// - The token lets a backend take the registration off GitHub where it has a safe way; it may
    ///   be [absent](RemoveToken::absent), and never reaches a command line of an instance.
    ///
    /// # On failure
    /// The runner may still exist; call again, or leave it to cleanup.
    async fn delete_runner(
        &self,
        id: &InstanceId,
        token: &RemoveToken,
    ) -> Result<Option<RunnerMetrics>>;

    /// The end of the text of a runner's console, for the record of a failed boot.
    ///
    /// # Behavior
    /// `Ok(None)` for an unknown id, and where the capability `console` is unsupported.
    ///
    /// # On failure
    /// Changes nothing.
    async fn console(&self, id: &InstanceId) -> Result<Option<String>>;

    /// Removes idle runners now, and busy ones too when `busy` is true; then does what
    /// [`cleanup`](Self::cleanup) does.
    ///
    /// # Behavior
    /// - With `busy` false no runner with a job is stopped. Check and stop are one step on the
    ///   instance, so that a job that arrives between them is safe.
    /// - Metrics come as runners go.
    ///
    /// # On failure
    /// One failing runner is one error item, and the stream goes on.
    fn flush_runners<'a>(
        &'a self,
        token: &'a RemoveToken,
        busy: bool,
    ) -> BoxStream<'a, Result<RunnerMetrics>>;

    /// Removes unhealthy runners, and orphans of every kind.
    ///
    /// # Behavior
    /// - Keeps what is healthy, and what is unknown.
    /// - Never touches what is younger than the grace period ([`crate::Timings::grace`]), what
    ///   another prefix owns, or what cannot be proven to be this manager's.
    /// - Safe to run twice, and from two managers at once.
    ///
    /// # On failure
    /// One failing runner is one error item, and the stream goes on.
    fn cleanup<'a>(&'a self, token: &'a RemoveToken) -> BoxStream<'a, Result<RunnerMetrics>>;

    /// Ends when runners may have changed since the last call, where the backend is told of
    /// changes; never elsewhere. A hint to look sooner: a lost one costs time, never correctness.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }

    /// The addresses of an instance, without a look into it: a guest that gives no answer must
    /// not hold up whoever asks where an instance is.
    ///
    /// # Behavior
    /// An unknown id is `Ok(None)`; an instance without addresses, or of a backend that shows
    /// none, has an empty list.
    ///
    /// # On failure
    /// Changes nothing.
    async fn addresses(&self, id: &InstanceId) -> Result<Option<Vec<IpAddr>>> {
        let found = self.get_runner(id).await?;
        Ok(found.map(|instance| instance.addresses))
    }

    /// The way into an instance, for operators ([`Capability::shell`]).
    ///
    /// # Behavior
    /// An unknown id is `Ok(None)`. What the operator does there is theirs to answer for.
    ///
    /// # On failure
    /// Changes nothing. [`ErrorKind::Unsupported`] where the backend opens none.
    async fn guest(&self, _id: &InstanceId) -> Result<Option<Box<dyn Guest>>> {
        let message = "this backend opens no way into its instances";
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}
