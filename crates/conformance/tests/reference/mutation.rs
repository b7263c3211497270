//! Bugs to plant, most of them shipped by somebody, and what must find each.

/// What a variant of the reference cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// It can do everything but what makes no sense in memory.
    Full,
    /// No way into an instance, no JIT configs.
    NoGuest,
    /// No registration tokens.
    NoToken,
}

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident $(= $peers:literal)? $(in $variant:ident)?:
        $($case:literal $because:literal)+;)+) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Mutation {
            $($(#[$doc])* $name),+
        }

        impl Mutation {
            pub(crate) const ALL: &[Mutation] = &[$(Mutation::$name),+];

            /// The cases that must fail of it, each of them, and a part of what they must say.
            pub(crate) fn killers(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$name => &[$(($case, $because)),+]),+
                }
            }

            /// The variant in which it is planted.
            pub(crate) fn variant(self) -> Variant {
                match self {
                    $($(Self::$name => Variant::$variant,)?)+
                    _ => Variant::Full,
                }
            }

            /// The numbers of the bugs in PEERS.md that it stands for.
            pub(crate) const PEERS: &[(Mutation, u8)] = &[$($((Mutation::$name, $peers),)?)+];
        }
    };
}

mutations! {
    /// A runner is shown without the cloud's id.
    NativeIdMissing: "create::appears_by_name_and_id" "no native id";
    /// The answer names another id than was asked for.
    OwnIds: "create::becomes_active_and_healthy" "names another id";
    /// A second launch of a name makes a second instance.
    LaunchesTwice: "create::the_same_id_twice_is_one_instance" "became";
    /// A launch looks for its name and makes it in two steps.
    LaunchRaces:
        "create::the_same_id_from_two_managers_at_once_is_one_instance" "something is left";
    /// Instances are shown with the id of another.
    NativeIdsRepeat: "create::thirty_two_at_once_are_thirty_two" "native ids";
    /// Long names are refused.
    LongNamesRefused: "create::a_prefix_of_the_greatest_length_works" "too long";
    /// A manager knows only what it has made itself.
    OwnRunnersOnly: "create::another_manager_of_the_prefix_sees_it" "does not see";
    /// A refused launch keeps what it had made before.
    RefusedLaunchLeaks: "create::a_refused_launch_leaves_nothing" "something is left";
    /// A launch that fails midway deletes the key of another name.
    MidwayLaunchLeaks = 5: "create::a_launch_that_fails_midway_leaves_nothing" "something is left";
    /// A launch whose answer was lost keeps its volume, and nobody knows of it.
    FailedLaunchLeaks:
        "create::a_launch_whose_answer_is_lost_leaves_nothing" "something is left"
        "faults::a_lost_answer_is_followed_by_no_second_instance" "where one is";
    /// A launch has no deadline.
    NoLaunchDeadline: "create::a_launch_that_hangs_ends_at_its_deadline" "did not end";
    /// The id of a failed launch cannot be used again.
    FailedIdIsSpent: "create::a_failed_launch_can_be_repeated_with_its_id" "used before";
    /// A full quota is an error like any other.
    QuotaIsUnknown: "create::a_full_quota_is_told_and_leaves_nothing" "BadAnswer";
    /// A launch that is dropped keeps its reservation.
    DroppedLaunchLeaks: "create::dropped_anywhere_it_leaves_nothing_to_cleanup" "dropped after";
    /// A credential that cannot be used is left out.
    CredentialIgnored in NoGuest:
        "create::each_credential_is_used_or_refused" "Ok(";
    /// Registration tokens are said to work, and do not.
    TokensFail: "create::each_credential_is_used_or_refused" "no tokens after all";
    /// Services that cannot be had are left out.
    ServicesIgnored: "create::services_that_cannot_be_had_are_refused" "Ok(";

    /// Scripts are escaped as if they were HTML.
    EscapesHtml = 10: "nasty::labels_and_groups_arrive_intact_and_run_nothing" "arrived as";
    /// A shell sees the runner group.
    RunsInput: "nasty::labels_and_groups_arrive_intact_and_run_nothing" "was run";

    /// An empty list is an error.
    EmptyListFails: "list::nothing_is_an_empty_list" "unexpected error";
    /// A list that succeeds is reported as a failure.
    SuccessIsFailure = 12: "list::all_are_listed_oldest_first" "unexpected error";
    /// An unknown runner is an error.
    GetUnknownFails = 4: "list::an_unknown_id_is_none" "unexpected error";
    /// Lists have no order.
    Unordered: "list::all_are_listed_oldest_first" "not oldest first";
    /// A list has one page.
    OnePage: "list::more_instances_than_one_page" "listed";
    /// The filter of states is ignored.
    FilterIgnored: "list::states_filter" "active are";
    /// No state at all is every state.
    EmptyFilterIsNone: "list::states_filter" "no state at all";
    /// Every runner costs a list call.
    ListsPerRunner = 22: "list::list_calls_do_not_grow_with_runners" "eight";
    /// The prefix `app-1` matches `app-10-…`.
    BarePrefix = 6:
        "list::a_longer_prefix_is_invisible" "shows"
        "nasty::prefixes_of_every_shape_work" "shows"
        "flush::a_longer_prefix_is_untouched" "neighbour's runner is gone";
    /// What has a matching name is taken for the manager's own.
    IgnoresMark:
        "list::what_lacks_the_mark_is_invisible" "["
        "flush::what_lacks_the_mark_is_untouched" "stranger's is gone"
        "cleanup::what_lacks_the_mark_is_untouched" "stranger's is gone";
    /// Only the list checks the mark.
    GetIgnoresMark: "list::what_lacks_the_mark_is_invisible" "Some(";
    /// A name that begins like a runner's is one.
    OddShapes: "list::names_of_other_shapes_are_nobodys" "removed were";
    /// Of two instances of a name the older is kept.
    KeepsOldest = 2:
        "list::the_newest_of_a_name_is_shown" "the newest is"
        "cleanup::older_twins_go_and_the_newest_stays" "the newest was";
    /// A list that fails is an empty list.
    FailedListIsEmpty: "list::a_failing_list_is_an_error_and_no_empty_list" "Ok([])";

    /// A job is not seen.
    JobUnseen: "health::a_job_is_seen" "not busy in time";
    /// A stopped instance counts as active.
    StoppedIsActive:
        "health::a_stopped_instance_is_unhealthy" "not unhealthy in time"
        "health::every_native_state_is_mapped" "is shown as";
    /// What was seen once is shown for ever.
    VanishedStays:
        "health::a_vanished_instance_is_none" "Some("
        "delete::one_whose_answer_is_lost_can_be_repeated" "it took effect, and is there";
    /// One native state is missing from the table.
    StateUnmapped = 11: "health::every_native_state_is_mapped" "\"shutoff\" is shown as";
    /// Everything is always new, so that what never came up counts as a runner for ever.
    AlwaysNew = 16:
        "health::stuck_in_creation_is_unhealthy_after_the_boot_time" "later"
        "health::never_installed_is_unhealthy_after_the_boot_time" "later"
        "health::what_cannot_be_reached_is_unhealthy_after_the_boot_time" "later"
        "cleanup::all_goes_after_the_grace_period" "Removed"
        "cleanup::what_is_stuck_in_creation_goes" "Removed";
    /// A guest that boots and cannot be reached yet is taken for dead.
    BootingIsDead:
        "health::what_cannot_be_reached_is_unhealthy_after_the_boot_time" "while it boots";
    /// A guest that cannot be asked is taken for dead: the error of its way in is not looked at.
    SilentIsDead = 3:
        "health::a_guest_that_cannot_be_asked_is_unknown" "Unhealthy"
        "cleanup::unknown_runners_stay" "Removed"
        "flush::idle_leaves_what_cannot_be_asked" "Removed";
    /// A guest that gives no answer in time is taken for dead.
    HangingIsDead: "health::a_guest_that_hangs_is_unknown_in_time_and_kept" "Unhealthy";
    /// Looks into guests have no deadline.
    NoGuestDeadline:
        "health::a_guest_that_hangs_is_unknown_in_time_and_kept" "did not end"
        "metrics::a_guest_that_hangs_does_not_block_deletion" "did not end";
    /// cloud-init is not asked.
    CloudInitIgnored: "health::each_status_of_cloud_init_is_judged" "cloud-init done";
    /// An instance that runs is taken for a runner that does.
    EndedIsHealthy: "health::installed_and_not_running_is_unhealthy" "not unhealthy in time";
    /// Whether the runner was installed does not count.
    InstalledIgnored: "health::never_installed_is_unhealthy_after_the_boot_time" "later";
    /// The cloud's time is read as local time.
    LocalTime = 7: "health::times_are_those_of_the_world_in_every_zone" "is said to be made";

    /// Deleted runners give no metrics.
    MetricsLost: "delete::the_metrics_name_the_runner" "None";
    /// A termination keeps the volume, and nobody knows of it.
    TerminateLeaks:
        "delete::the_metrics_name_the_runner" "something is left"
        "flush::busy_takes_all" "something is left";
    /// A deletion of an unknown runner is an error.
    DeleteUnknownFails:
        "delete::an_unknown_id_is_none" "unexpected error"
        "delete::twice_is_none" "unexpected error";
    /// A launch goes on when its instance was deleted meanwhile.
    LaunchOutlivesDelete: "delete::while_it_is_created" "something is left";
    /// A busy runner is not deleted.
    BusyIsKept: "delete::a_busy_runner_goes_too" "unexpected error";
    /// A stopped instance is not deleted.
    StoppedStays: "delete::a_stopped_instance_goes" "something is left";
    /// A termination of what is gone already fails.
    TerminateTwiceFails:
        "delete::at_once_from_two_managers" "gone already"
        "cleanup::two_managers_at_once_do_no_harm" "gone already";
    /// A termination that failed says that it did not.
    TerminateLies: "delete::a_refused_delete_can_be_repeated" "Ok(";
    /// A termination that failed midway says that it did not.
    MidwayLies: "delete::one_that_fails_midway_can_be_repeated" "not told";
    /// What a termination that failed midway left is never found again.
    MidwayForgets: "delete::one_that_fails_midway_can_be_repeated" "something is left";
    /// A termination that is dropped forgets what it has not removed yet.
    DroppedTerminateLeaks:
        "delete::dropped_anywhere_it_can_be_repeated" "dropped after"
        "cleanup::dropped_midway_it_can_be_repeated" "something is left";

    /// A flush of nothing is an error.
    EmptyFlushFails: "flush::nothing_gives_nothing" "Removed";
    /// An idle stop does not look whether a job runs.
    IdleStopKillsJobs = 1: "flush::idle_leaves_busy" "should be there";
    /// A flush of idle runners takes all.
    FlushTakesAll: "flush::idle_leaves_busy" "should be there";
    /// A flush of all takes idle runners only.
    FlushSparesBusy:
        "flush::busy_takes_all" "{"
        "flush::busy_takes_what_cannot_be_asked" "Removed";
    /// Check and stop are two steps.
    IdleStopRaces: "flush::a_job_that_arrives_between_check_and_stop_is_safe" "was killed";
    /// A flush does not clean up.
    FlushWithoutCleanup: "flush::it_cleans_up_too" "something is left";
    /// A flush ends with the first failure.
    FlushEndsAtError: "flush::one_failure_does_not_end_it" "went, two should";

    /// A cleanup takes all.
    CleanupTakesAll: "cleanup::healthy_and_busy_runners_stay" "Removed";
    /// Unhealthy runners are never removed.
    CleanupDoesNothing: "cleanup::unhealthy_runners_go" "[]";
    /// Everything is as old as the world.
    AgeIgnored: "cleanup::nothing_is_touched_before_the_grace_period" "Removed";
    /// Leftovers are not looked for.
    LeftoversForgotten:
        "cleanup::leftovers_of_each_kind_go_and_are_no_runners" "volumes, after cleanup";
    /// Leftovers of one kind are not looked for.
    KeysForgotten: "cleanup::leftovers_of_each_kind_go_and_are_no_runners" "keys, after cleanup";
    /// Leftovers of every prefix are removed.
    LeftoversOfAll: "cleanup::a_longer_prefix_is_untouched" "became";
    /// A cleanup ends with the first failure.
    CleanupEndsAtError: "cleanup::one_failure_does_not_end_it" "went, two should";

    /// The file about the job's end is not read.
    PostJobIgnored: "metrics::a_normal_end" "no post-job metrics";
    /// Every end is a normal one.
    AbnormalIsNormal = 21: "metrics::an_abnormal_end" "Normal";
    /// Only normal and abnormal ends are known.
    PolicyIsUnknown: "metrics::a_policy_refusal" "policy";
    /// A file that is not there is a failure.
    MissingIsFailure: "metrics::missing_files_are_no_failure" "set_aside";
    /// What was not taken is not told.
    SetAsideForgotten: "metrics::corrupt_files_are_set_aside" "set_aside: []";
    /// A file that is too large is cut and taken.
    OversizedIsCut: "metrics::oversized_files_are_set_aside" "something was taken";
    /// A file of the greatest length is too large.
    LimitIsOneLess: "metrics::files_of_the_greatest_length_are_taken" "larger";
    /// Symbolic links are followed.
    LinksFollowed: "metrics::symbolic_links_are_set_aside" "something was taken";
    /// An endless file is read to its end.
    EndlessIsRead: "metrics::endless_files_are_set_aside" "Installed";

    /// Throttling changes nothing: the next call goes out at once.
    BudgetIgnored = 17: "faults::throttling_makes_the_rate_of_requests_fall" "with it";
    /// Throttling is an error like any other.
    ThrottlingIsUnknown: "faults::throttling_is_told_with_a_time_to_come_again" "BadAnswer";
    /// A request is repeated until it succeeds, or nearly so.
    RetriesForever: "faults::retries_are_bounded_and_nothing_is_taken_for_gone" "requests";
    /// What cannot be asked for is not there.
    FailedGetIsNone:
        "faults::retries_are_bounded_and_nothing_is_taken_for_gone" "an instance that exists";
    /// Calls have no deadline.
    NoCallDeadline: "faults::a_cloud_that_hangs_is_left_at_the_deadline" "did not end";
    /// What has no instance in the list is left over, without a second look.
    OrphansByList:
        "faults::truncated_lists_delete_nothing_alive" "became"
        "faults::stale_lists_delete_nothing_alive" "became";
    /// Without a list everything is left over.
    OrphansWithoutList: "faults::a_list_that_fails_deletes_nothing" "became";

    /// The credential stands on a command line.
    SecretInArguments = 20: "secrets::not_in_process_arguments" "stands in";
    /// The credential stands in a file that all may read.
    SecretInFiles: "secrets::not_in_files_that_others_can_read" "stands in";
    /// The credential stands in user-data.
    SecretInMetadata: "secrets::not_in_metadata_that_others_can_read" "stands in";
    /// Requests are logged as they are.
    SecretInLogs: "secrets::not_in_logs_of_the_finest_level" "is logged";
    /// Errors show the request.
    SecretInErrors: "secrets::not_in_debug_nor_in_errors" "is printed";
}
