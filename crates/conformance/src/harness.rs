//! What a backend's test setup provides.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_core::{
    Connected, CreateRunner, InstanceId, NamePrefix, Result, RunnerName, Timings,
};

/// How many things of each kind exist: instances, key pairs, folders, processes, whatever the
/// backend makes.
pub type Counts = BTreeMap<&'static str, usize>;

/// Whether the harness could do what a case asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// It was done.
    Done,
    /// It cannot be brought about here, for this reason; the case is waived.
    Cannot(&'static str),
}

/// What goes wrong with the next matching call of the backend to its cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A launch is refused and has no effect.
    Launch,
    /// A launch takes effect, and its answer is an error.
    LaunchAfterEffect,
    /// A launch takes effect, and its answer never comes.
    LaunchHangs,
    /// A termination is refused and has no effect.
    Terminate,
    /// Lists are refused, until the harness is told to mend.
    List,
    /// Guests cannot be asked, for no reason that says anything about them, until the harness
    /// is told to mend.
    Guest,
}

/// The setup of one backend. It is shared by all cases, which run side by side: everything is
/// told apart by prefix or name.
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The backend's scheme.
    fn scheme(&self) -> &'static str;

    /// A manager of this prefix. Two of one prefix are two managers on the same cloud.
    async fn manager(&self, prefix: &NamePrefix, timings: &Timings) -> Result<Connected>;

    /// A request for a runner that listens for jobs until it is removed.
    fn request(&self, id: InstanceId) -> CreateRunner;

    /// Counts what exists of a prefix, by other means than the backend's own.
    async fn count(&self, prefix: &NamePrefix) -> Counts;

    /// Lets a job begin on a runner, and returns once it runs.
    async fn start_job(&self, name: &RunnerName) -> Did;

    /// Stops a runner's instance behind the manager's back, as a crash or a power cut would.
    async fn stop(&self, name: &RunnerName) -> Did;

    /// Removes a runner's instance, all of it, behind the manager's back.
    async fn vanish(&self, name: &RunnerName) -> Did;

    /// Makes what a launch of this name leaves when it is cut off: of this manager, and without
    /// an instance.
    async fn leave_leftover(&self, name: &RunnerName) -> Did;

    /// Makes something of this very name that is not the manager's: without its mark.
    async fn make_stranger(&self, name: &RunnerName) -> Did;

    /// Whether what [`Harness::make_stranger`] made is still there; it is then removed.
    async fn take_stranger(&self, name: &RunnerName) -> bool;

    /// Makes the next matching call about this prefix go wrong.
    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did;

    /// Ends every fault of a prefix.
    async fn mend(&self, prefix: &NamePrefix);

    /// How long a case waits for something to come about: a boot, the end of a process.
    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How many list calls were made about a prefix so far, where that can be seen.
    fn list_calls(&self, prefix: &NamePrefix) -> Option<usize>;
}
