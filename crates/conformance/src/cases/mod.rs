//! All cases.

mod cleanup;
mod create;
mod delete;
mod faults;
mod flush;
mod health;
mod list;
mod metrics;
mod model;
mod nasty;
mod secrets;

use crate::Case;

macro_rules! cases {
    ($($group:ident: $($name:ident)+;)+) => {
        /// Every case, in order.
        #[must_use]
        pub fn cases() -> Vec<Case> {
            vec![$($(Case {
                name: concat!(stringify!($group), "::", stringify!($name)),
                run: |bench| Box::pin($group::$name(bench)),
            }),+),+]
        }
    };
}

cases! {
    create:
        appears_by_name_and_id
        becomes_active_and_healthy
        the_same_id_twice_is_one_instance
        the_same_id_from_two_managers_at_once_is_one_instance
        thirty_two_at_once_are_thirty_two
        a_prefix_of_the_greatest_length_works
        another_manager_of_the_prefix_sees_it
        a_refused_launch_leaves_nothing
        a_launch_that_fails_midway_leaves_nothing
        a_launch_whose_answer_is_lost_leaves_nothing
        a_launch_that_hangs_ends_at_its_deadline
        a_failed_launch_can_be_repeated_with_its_id
        a_full_quota_is_told_and_leaves_nothing
        dropped_anywhere_it_leaves_nothing_to_cleanup
        each_credential_is_used_or_refused
        services_that_cannot_be_had_are_refused;
    nasty:
        labels_and_groups_arrive_intact_and_run_nothing
        prefixes_of_every_shape_work;
    list:
        nothing_is_an_empty_list
        an_unknown_id_is_none
        all_are_listed_oldest_first
        more_instances_than_one_page
        states_filter
        list_calls_do_not_grow_with_runners
        a_longer_prefix_is_invisible
        what_lacks_the_mark_is_invisible
        names_of_other_shapes_are_nobodys
        the_newest_of_a_name_is_shown
        a_failing_list_is_an_error_and_no_empty_list;
    health:
        a_job_is_seen
        a_stopped_instance_is_unhealthy
        a_vanished_instance_is_none
        every_native_state_is_mapped
        stuck_in_creation_is_unhealthy_after_the_boot_time
        what_cannot_be_reached_is_unhealthy_after_the_boot_time
        a_guest_that_cannot_be_asked_is_unknown
        a_guest_that_hangs_is_unknown_in_time_and_kept
        each_status_of_cloud_init_is_judged
        installed_and_not_running_is_unhealthy
        never_installed_is_unhealthy_after_the_boot_time
        times_are_those_of_the_world_in_every_zone;
    delete:
        the_metrics_name_the_runner
        an_unknown_id_is_none
        twice_is_none
        while_it_is_created
        a_busy_runner_goes_too
        at_once_from_two_managers
        a_stopped_instance_goes
        a_refused_delete_can_be_repeated
        one_that_fails_midway_can_be_repeated
        one_whose_answer_is_lost_can_be_repeated
        dropped_anywhere_it_can_be_repeated;
    flush:
        nothing_gives_nothing
        idle_leaves_busy
        busy_takes_all
        a_job_that_arrives_between_check_and_stop_is_safe
        idle_leaves_what_cannot_be_asked
        busy_takes_what_cannot_be_asked
        it_cleans_up_too
        one_failure_does_not_end_it
        a_longer_prefix_is_untouched
        what_lacks_the_mark_is_untouched;
    cleanup:
        healthy_and_busy_runners_stay
        unhealthy_runners_go
        unknown_runners_stay
        nothing_is_touched_before_the_grace_period
        all_goes_after_the_grace_period
        leftovers_of_each_kind_go_and_are_no_runners
        older_twins_go_and_the_newest_stays
        what_is_stuck_in_creation_goes
        a_longer_prefix_is_untouched
        what_lacks_the_mark_is_untouched
        two_managers_at_once_do_no_harm
        one_failure_does_not_end_it
        dropped_midway_it_can_be_repeated;
    metrics:
        a_normal_end
        an_abnormal_end
        a_policy_refusal
        missing_files_are_no_failure
        corrupt_files_are_set_aside
        oversized_files_are_set_aside
        files_of_the_greatest_length_are_taken
        symbolic_links_are_set_aside
        endless_files_are_set_aside
        a_guest_that_hangs_does_not_block_deletion;
    faults:
        throttling_makes_the_rate_of_requests_fall
        throttling_is_told_with_a_time_to_come_again
        retries_are_bounded_and_nothing_is_taken_for_gone
        a_cloud_that_hangs_is_left_at_the_deadline
        truncated_lists_delete_nothing_alive
        stale_lists_delete_nothing_alive
        a_list_that_fails_deletes_nothing
        a_lost_answer_is_followed_by_no_second_instance;
    secrets:
        not_in_process_arguments
        not_in_files_that_others_can_read
        not_in_metadata_that_others_can_read
        not_in_logs_of_the_finest_level
        not_in_debug_nor_in_errors;
    model:
        random_operations_do_what_the_model_says;
}
