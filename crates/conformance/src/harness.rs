//! What a backend's test setup provides.

use std::time::Duration;

use async_trait::async_trait;
use runner_manager_core::{
    BackendContext, CloudInitStatus, CloudRunnerState, Connected, CreateRunner, ExchangeFile,
    InstanceId, NamePrefix, Result, RunnerName,
};

use crate::fault::Fault;
use crate::seen::{Counts, Did, Exposure, JobFate, Place, Planted, Received, Seen};

/// The setup of one backend, which does what no manager may: it reaches around the manager, to
/// break things and to look.
///
/// One harness is shared by all cases, which run side by side: everything is told apart by
/// prefix or name. Give each prefix an endpoint of its own (a fault proxy's port, a work folder)
/// where faults and counts could not be told apart otherwise; all prefixes of one case begin
/// with the same [`Bench::STEM`](crate::Bench::STEM) characters, and must meet on one cloud.
///
/// What cannot be brought about is [`Cannot`](crate::Cannot), with a reason. The case then
/// fails, unless a waiver excuses it. What goes wrong with the setup itself may panic.
///
/// No method has a default that answers for the backend: a new one does not compile until every
/// harness has answered it. (That of [`stuck_state`](Self::stuck_state) follows from the table.)
#[async_trait]
pub trait Harness: Send + Sync + 'static {
    /// The backend's scheme.
    fn scheme(&self) -> &'static str;

    /// A manager. Two of one prefix are two managers on the same cloud; the clock of the context
    /// must reach the manager's rules, because cases move it ahead.
    async fn manager(&self, context: BackendContext) -> Result<Connected>;

    /// A request for a runner that listens for jobs until it is removed, with a JIT config or a
    /// registration token. Cases replace its credential, labels and runner group: the stand-in
    /// runner takes any.
    fn request(&self, id: InstanceId) -> CreateRunner;

    /// Lets the instances of managers that are made from now on reach this port of this
    /// machine's loopback, where the suite answers claims
    /// ([`runner_manager_core::RunnerCredential::Claim`]). The answer is the URL under which they
    /// do: `http://127.0.0.1:PORT`, where nothing else is needed.
    async fn reach(&self, prefix: &NamePrefix, port: u16) -> Seen<String>;

    // ----- Looking, by other means than the backend's own: another client, `/proc`, files. -----

    /// Counts what exists of exactly this prefix. The keys are always the same: every kind of
    /// thing that a launch makes, and `instances` (or the backend's word for them) among them.
    async fn count(&self, prefix: &NamePrefix) -> Counts;

    /// How many lists the backend has asked its cloud for about this prefix so far; each page
    /// counts.
    fn list_calls(&self, prefix: &NamePrefix) -> Seen<usize>;

    /// How many requests of any kind the backend has sent about this prefix so far.
    fn requests(&self, prefix: &NamePrefix) -> Seen<usize>;

    /// How many instances one page of a list holds in this setup (make it small: 5 or 10);
    /// `None` where the cloud answers in one piece.
    fn page_size(&self) -> Option<usize>;

    /// What the runner on an instance was given.
    async fn received(&self, name: &RunnerName) -> Seen<Received>;

    /// What others than the manager and the runner's own processes can read in a place, of this
    /// runner and of everything that was done to it so far.
    async fn exposed(&self, name: &RunnerName, place: Place) -> Seen<Vec<Exposure>>;

    // ----- Jobs. -----

    /// Offers a runner a job that does not end by itself, as GitHub would, and does not wait for
    /// it to begin. A runner that is gone by now, or is on its way, is not a failure.
    async fn offer_job(&self, name: &RunnerName) -> Did;

    /// What has become of the job that was offered last.
    async fn job_fate(&self, name: &RunnerName) -> JobFate;

    // ----- Instances, behind the manager's back. -----

    /// Stops an instance, as a crash or a power cut would. It is not removed.
    async fn stop(&self, name: &RunnerName) -> Did;

    /// Removes an instance, all of it.
    async fn vanish(&self, name: &RunnerName) -> Did;

    /// Ends the runner program on an instance that goes on, as a runner that crashed would.
    async fn end_runner(&self, name: &RunnerName) -> Did;

    /// Every native state that the backend's table holds, and one that it does not, with what
    /// each must be shown as. Written down here once more, so that the two can be compared.
    fn native_states(&self) -> Vec<(&'static str, CloudRunnerState)>;

    /// Brings an instance into one of [`native_states`](Self::native_states), until
    /// [`mend`](Self::mend) or its deletion.
    async fn force_state(&self, name: &RunnerName, native: &'static str) -> Did;

    /// The native state in which a launch that never comes to its end leaves an instance, and in
    /// which it can be deleted: the first that counts as being made, unless the backend says
    /// otherwise.
    fn stuck_state(&self) -> Seen<&'static str> {
        let states = self.native_states();
        let mut made = states
            .iter()
            .filter(|(_, state)| *state == CloudRunnerState::Created);
        let state = made.next().map(|(native, _)| *native);
        state.ok_or(crate::Cannot("no native state counts as being made"))
    }

    /// Makes a second instance of this name that bears the manager's mark and is older than the
    /// first: what a launch whose answer was lost leaves where names are not unique.
    async fn make_twin(&self, name: &RunnerName) -> Did;

    /// Makes something of this very name that is not the manager's: without its mark, or with a
    /// name of another shape. It is no runner's name where the case says so.
    async fn make_stranger(&self, name: &str) -> Did;

    /// Whether what [`make_stranger`](Self::make_stranger) made is still there; it is then
    /// removed.
    async fn take_stranger(&self, name: &str) -> bool;

    /// The kinds of things that can be left without an instance: some of the keys of
    /// [`count`](Self::count). Empty where an instance is one thing.
    fn leftover_kinds(&self) -> &'static [&'static str];

    /// Makes a thing of this kind as a launch makes it, with the manager's mark, and without its
    /// instance.
    async fn leave_leftover(&self, name: &RunnerName, kind: &'static str) -> Did;

    // ----- The inside of an instance. -----

    /// Lets `cloud-init status` say this.
    async fn set_cloud_init(&self, name: &RunnerName, status: CloudInitStatus) -> Did;

    /// Puts something in the place of an exchange file, as the runner's user could.
    async fn put_file(&self, name: &RunnerName, file: ExchangeFile, what: Planted) -> Did;

    // ----- Faults. -----

    /// Plants a fault; it concerns every manager of this prefix.
    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did;

    /// Ends every fault of a prefix, and frees instances from forced states. Never fails.
    async fn mend(&self, prefix: &NamePrefix);

    // ----- Time. -----

    /// How long a case waits for something to come about: a boot, the end of a process.
    fn patience(&self) -> Duration;

    /// How long a window is in which the rate of requests is measured: long enough for a dozen
    /// requests at the backend's full rate.
    fn window(&self) -> Duration;
}
