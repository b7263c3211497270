//! Bugs to plant.

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident $(= $peers:literal)?: $($killer:literal)+;)+) => {
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

            /// The numbers of the known bugs of others that it stands for.
            pub(crate) const PEERS: &[(Mutation, u8)] = &[$($((Mutation::$name, $peers),)?)+];
        }
    };
}

mutations! {
    /// The prefix `app-1` matches `app-10-…`.
    BarePrefix = 6: "list::a_longer_prefix_is_invisible";
    /// What has a matching name is taken for the manager's own.
    IgnoresMark: "list::what_lacks_the_mark_is_invisible";
    /// Only the list checks the mark.
    GetIgnoresMark: "list::what_lacks_the_mark_is_invisible";
    /// A second launch of a name makes a second instance.
    LaunchesTwice: "create::the_same_id_twice_is_one_instance";
    /// A launch looks for its name and makes it in two steps.
    LaunchRaces: "create::the_same_id_from_two_managers_at_once_is_one_instance";
    /// A failed launch keeps its volume, and nobody knows of it.
    FailedLaunchLeaks = 5: "create::a_launch_whose_answer_is_lost_leaves_nothing";
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
    ListsPerRunner = 22: "list::list_calls_do_not_grow_with_runners";
    /// A stopped instance counts as active.
    StoppedIsActive = 11: "health::a_stopped_instance_is_unhealthy";
    /// A job is not seen.
    JobUnseen: "health::a_job_is_seen";
    /// A guest that cannot be asked is taken for dead.
    SilentIsDead: "health::a_guest_that_cannot_be_asked_is_unknown";
    /// An idle stop does not look whether a job runs.
    IdleStopKillsJobs = 1: "flush::idle_leaves_busy";
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
    GetUnknownFails = 4: "list::an_unknown_id_is_none";
    /// The filter of states is ignored.
    FilterIgnored: "list::states_filter";
    /// The answer names another id than was asked for.
    OwnIds: "create::becomes_active_and_healthy";
    /// Deleted runners give no metrics.
    MetricsLost: "delete::the_metrics_name_the_runner";
}
