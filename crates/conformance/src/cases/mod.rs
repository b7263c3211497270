//! All cases.

mod cleanup;
mod create;
mod delete;
mod flush;
mod health;
mod list;
mod model;

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
        a_launch_whose_answer_is_lost_leaves_nothing
        a_launch_that_hangs_ends_at_its_deadline
        dropped_anywhere_it_leaves_nothing_to_cleanup
        a_credential_that_cannot_be_used_is_refused;
    list:
        nothing_is_an_empty_list
        an_unknown_id_is_none
        all_are_listed_oldest_first
        states_filter
        list_calls_do_not_grow_with_runners
        a_longer_prefix_is_invisible
        what_lacks_the_mark_is_invisible
        a_failing_list_is_an_error_and_no_empty_list;
    health:
        a_job_is_seen
        a_stopped_instance_is_unhealthy
        a_vanished_instance_is_none
        a_guest_that_cannot_be_asked_is_unknown;
    delete:
        the_metrics_name_the_runner
        an_unknown_id_is_none
        twice_is_none
        a_busy_runner_goes_too
        at_once_from_two_managers
        a_stopped_instance_goes
        a_refused_delete_can_be_repeated
        dropped_anywhere_it_can_be_repeated;
    flush:
        nothing_gives_nothing
        idle_leaves_busy
        busy_takes_all
        one_failure_does_not_end_it
        a_longer_prefix_is_untouched
        what_lacks_the_mark_is_untouched;
    cleanup:
        healthy_and_busy_runners_stay
        unhealthy_runners_go
        unknown_runners_stay
        nothing_young_is_touched
        leftovers_go_after_the_grace_period
        a_longer_prefix_is_untouched
        what_lacks_the_mark_is_untouched
        two_managers_at_once_do_no_harm
        one_failure_does_not_end_it
        dropped_midway_it_can_be_repeated;
    model:
        random_operations_do_what_the_model_says;
}
