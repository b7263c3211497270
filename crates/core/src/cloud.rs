//! The seam that a backend fills.

use std::net::IpAddr;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    Capability, CloudRunnerState, GitHubRunnerConfig, Guest, NamePrefix, Result, RunnerCredential,
    RunnerName, SupportServiceConfig,
};

/// What to launch.
#[derive(Debug, Clone)]
pub struct LaunchSpec {
    /// The name of instance and runner.
    pub name: RunnerName,
    /// What the runner registers with.
    pub credential: RunnerCredential,
    /// What the runner registers as.
    pub github: GitHubRunnerConfig,
    /// The services around it.
    pub support: SupportServiceConfig,
}

/// One instance as its cloud shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudInstance {
    /// The name; backends show only names that match the prefix asked for.
    pub name: RunnerName,
    /// The cloud's own id, unique even where names are not.
    pub native_id: String,
    /// The state, mapped.
    pub state: CloudRunnerState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Something of this manager's that has no instance any more: a key pair, a volume, a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The kind, in the cloud's word.
    pub kind: &'static str,
    /// The cloud's own id.
    pub id: String,
    /// The runner that it belonged to.
    pub name: RunnerName,
    /// When it was made; `None` where the cloud does not say, and then it is removed only once
    /// it has been seen for a whole grace period.
    pub created_at: Option<Timestamp>,
}

/// A few plain operations on the instances of one cloud.
///
/// [`crate::HostedRunners`] builds the contract on top: it decides, this trait does. Every
/// method may be cancelled at any await point.
#[async_trait]
pub trait Cloud: Send + Sync + 'static {
    /// What the backend can do.
    fn capability(&self) -> &Capability;

    /// Launches an instance. Idempotent by name: adopts or finishes what an earlier call began.
    ///
    /// # On failure
    /// The caller terminates what [`get`](Self::get) still shows of it.
    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance>;

    /// The instance of this name; the newest where the cloud holds several.
    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>>;

    /// Every instance that is proven to belong to the prefix, in a constant number of calls
    /// (less pages).
    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>>;

    /// Ends an instance, with all that belongs to it. One that is gone already is `Ok`.
    async fn terminate(&self, instance: &CloudInstance) -> Result<()>;

    /// What is proven to belong to the prefix and has no instance any more, of any age.
    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>>;

    /// Removes a leftover. One that is gone already is `Ok`.
    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()>;

    /// Opens the way into an instance.
    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>>;

    /// The end of the console's text, where there is one.
    async fn console(&self, instance: &CloudInstance) -> Result<Option<String>>;

    /// Ends when something may have changed since the last call, for clouds that tell: then a
    /// look is due before its time. A hint, which may be wrong, late or lost.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}
