//! Bugs to plant, and a manager that has those that lie above the cloud.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use runner_manager_core::{
    Capability, CloudRunnerInstance, CloudRunnerManager, CloudRunnerState, Connected, CreateRunner,
    Error, ErrorKind, InstanceId, NamePrefix, RemoveToken, Result, RunnerMetrics,
};

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident: $($killer:literal)+;)+) => {
        /// A bug. Most were shipped by somebody.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Mutation {
            $($(#[$doc])* $name),+
        }

        impl Mutation {
            pub(crate) const ALL: &[Mutation] = &[$(Mutation::$name),+];

            /// The cases that should fail of it; one that does is enough.
            pub(crate) fn killers(self) -> &'static [&'static str] {
                match self {
                    $(Self::$name => &[$($killer),+]),+
                }
            }
        }
    };
}

mutations! {
    /// The prefix `app-1` matches `app-10-…`.
    BarePrefix: "list::a_longer_prefix_is_invisible";
    /// What has a matching name is taken for the manager's own.
    IgnoresMark: "list::what_lacks_the_mark_is_invisible";
    /// Only the list checks the mark.
    GetIgnoresMark: "list::what_lacks_the_mark_is_invisible";
    /// A second launch of a name makes a second instance.
    LaunchesTwice: "create::the_same_id_twice_is_one_instance";
    /// A launch looks for its name and makes it in two steps.
    LaunchRaces: "create::the_same_id_from_two_managers_at_once_is_one_instance";
    /// A failed launch keeps its volume, and nobody knows of it.
    FailedLaunchLeaks: "create::a_launch_whose_answer_is_lost_leaves_nothing";
    /// A launch that is dropped keeps its reservation.
    DroppedLaunchLeaks: "create::dropped_anywhere_it_leaves_nothing_to_cleanup";
    /// A termination keeps the volume.
    TerminateLeaks: "delete::the_metrics_name_the_runner";
    /// A termination that failed says that it did not.
    TerminateLies: "delete::a_refused_delete_can_be_repeated";
    /// A termination of what is gone already fails.
    TerminateTwiceFails: "delete::at_once_from_two_managers";
    /// A list has one page.
    OnePage: "list::all_are_listed_oldest_first";
    /// A list that fails is an empty list.
    FailedListIsEmpty: "list::a_failing_list_is_an_error_and_no_empty_list";
    /// Every runner costs a list call.
    ListsPerRunner: "list::list_calls_do_not_grow_with_runners";
    /// A stopped instance counts as active.
    StoppedIsActive: "health::a_stopped_instance_is_unhealthy";
    /// A job is not seen.
    JobUnseen: "health::a_job_is_seen";
    /// A guest that cannot be asked is taken for dead.
    SilentIsDead: "health::a_guest_that_cannot_be_asked_is_unknown";
    /// An idle stop does not look whether a job runs.
    IdleStopKillsJobs: "flush::idle_leaves_busy";
    /// A flush of idle runners takes all.
    FlushTakesAll: "flush::idle_leaves_busy";
    /// A flush ends with the first failure.
    FlushEndsAtError: "flush::one_failure_does_not_end_it";
    /// A cleanup ends with the first failure.
    CleanupEndsAtError: "cleanup::one_failure_does_not_end_it";
    /// Everything is as old as the world.
    AgeIgnored: "cleanup::nothing_young_is_touched";
    /// Leftovers are not looked for.
    LeftoversForgotten: "cleanup::leftovers_go_after_the_grace_period";
    /// Leftovers of every prefix are removed.
    LeftoversOfAll: "cleanup::a_longer_prefix_is_untouched";
    /// Unhealthy runners are never removed.
    CleanupDoesNothing: "cleanup::unhealthy_runners_go";
    /// A deletion of an unknown runner is an error.
    DeleteUnknownFails: "delete::an_unknown_id_is_none" "delete::twice_is_none";
    /// An unknown runner is an error.
    GetUnknownFails: "list::an_unknown_id_is_none";
    /// The filter of states is ignored.
    FilterIgnored: "list::states_filter";
    /// The answer names another id than was asked for.
    OwnIds: "create::becomes_active_and_healthy";
    /// Deleted runners give no metrics.
    MetricsLost: "delete::the_metrics_name_the_runner";
}

/// A manager with a bug.
pub(crate) struct Mutant {
    pub(crate) inner: Connected,
    pub(crate) mutation: Option<Mutation>,
}

impl Mutant {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "a planted bug")
}

fn until_error(
    stream: BoxStream<'_, Result<RunnerMetrics>>,
) -> BoxStream<'_, Result<RunnerMetrics>> {
    let ended = |ended: &mut bool, item: Result<RunnerMetrics>| {
        let go_on = !*ended;
        *ended |= item.is_err();
        std::future::ready(go_on.then_some(item))
    };
    stream.scan(false, ended).boxed()
}

#[async_trait]
impl CloudRunnerManager for Mutant {
    fn name_prefix(&self) -> &NamePrefix {
        self.inner.name_prefix()
    }

    fn capability(&self) -> &Capability {
        self.inner.capability()
    }

    async fn create_runner(&self, mut request: CreateRunner) -> Result<InstanceId> {
        if self.has(Mutation::OwnIds) {
            request.id = InstanceId::random();
        }
        self.inner.create_runner(request).await
    }

    async fn get_runner(&self, id: &InstanceId) -> Result<Option<CloudRunnerInstance>> {
        let found = self.inner.get_runner(id).await?;
        if found.is_none() && self.has(Mutation::GetUnknownFails) {
            return Err(not_found());
        }
        Ok(found)
    }

    async fn get_runners(
        &self,
        states: Option<&[CloudRunnerState]>,
    ) -> Result<Vec<CloudRunnerInstance>> {
        let states = states.filter(|_| !self.has(Mutation::FilterIgnored));
        match self.inner.get_runners(states).await {
            Err(_) if self.has(Mutation::FailedListIsEmpty) => Ok(Vec::new()),
            answer => answer,
        }
    }

    async fn delete_runner(
        &self,
        id: &InstanceId,
        token: &RemoveToken,
    ) -> Result<Option<RunnerMetrics>> {
        let gone = self.inner.delete_runner(id, token).await?;
        if gone.is_none() && self.has(Mutation::DeleteUnknownFails) {
            return Err(not_found());
        }
        Ok(gone.filter(|_| !self.has(Mutation::MetricsLost)))
    }

    fn flush_runners<'a>(
        &'a self,
        token: &'a RemoveToken,
        busy: bool,
    ) -> BoxStream<'a, Result<RunnerMetrics>> {
        let busy = busy || self.has(Mutation::FlushTakesAll);
        let stream = self.inner.flush_runners(token, busy);
        if self.has(Mutation::FlushEndsAtError) {
            return until_error(stream);
        }
        stream
    }

    fn cleanup<'a>(&'a self, token: &'a RemoveToken) -> BoxStream<'a, Result<RunnerMetrics>> {
        if self.has(Mutation::CleanupDoesNothing) {
            return futures::stream::empty().boxed();
        }
        let stream = self.inner.cleanup(token);
        if self.has(Mutation::CleanupEndsAtError) {
            return until_error(stream);
        }
        stream
    }
}
