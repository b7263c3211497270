//! EC2 shows things late, in part, or not at all; answers are lost.

use std::time::Duration;

use futures::StreamExt;
use runner_manager_core::{ErrorKind, InstanceId, RunnerCredential, Secret};
use serde_json::json;

use crate::proxy::{Rule, What};
use crate::{pool, request, run, token};

#[test]
fn what_is_not_found_right_after_its_launch_is_not_gone() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        site.proxy.settle(pool.endpoint(), Duration::from_secs(5));
        let id = pool.create().await.expect("a launch");
        let found = pool.manager.get_runner(&id).await.expect("a look");
        assert!(found.is_some(), "it was launched a moment ago");
        let listed = pool.manager.get_runners(None).await.expect("a list");
        assert_eq!(listed.len(), 1);
        let cleaned: Vec<_> = pool.manager.cleanup(&token()).collect().await;
        assert!(cleaned.is_empty(), "{cleaned:?}");
        let deleted = pool.manager.delete_runner(&id, &token()).await;
        assert!(deleted.expect("it is deleted once it shows").is_some());
        assert_eq!(site.instances(pool.endpoint()).await.len(), 0);
        assert!(
            pool.manager
                .get_runner(&id)
                .await
                .expect("a look")
                .is_none()
        );
    });
}

#[test]
fn an_instance_that_a_list_leaves_out_is_looked_for_once_more() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        for _ in 0..7 {
            pool.create().await.expect("a launch");
        }
        let whole = pool.manager.get_runners(None).await.expect("a list");
        site.proxy.truncate(pool.endpoint());
        let listed = pool.manager.get_runners(None).await.expect("a list");
        assert_eq!(listed.len(), whole.len());
        site.proxy.mend(pool.endpoint());
        let gone = site.instance(&whole[0].name).await.expect("it is there");
        site.ec2("terminate_instances", json!({"InstanceIds": [gone]}))
            .await;
        assert_eq!(
            pool.manager.get_runners(None).await.expect("a list").len(),
            6
        );
    });
}

#[test]
fn a_list_of_many_pages_is_whole() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let made = (0..12).map(|_| pool.create());
        futures::future::try_join_all(made)
            .await
            .expect("twelve launches");
        let before = site.proxy.calls(pool.endpoint(), Some("DescribeInstances"));
        let listed = pool.manager.get_runners(None).await.expect("a list");
        let pages = site.proxy.calls(pool.endpoint(), Some("DescribeInstances")) - before;
        assert_eq!((listed.len(), pages), (12, 3));
    });
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again_and_never_taken_for_a_short_list() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        for _ in 0..3 {
            pool.create().await.expect("a launch");
        }
        let cut = Rule::of("DescribeInstances", What::CutShort);
        site.proxy.plant(pool.endpoint(), cut.clone().times(1));
        assert_eq!(
            pool.manager.get_runners(None).await.expect("a list").len(),
            3
        );
        site.proxy.plant(pool.endpoint(), cut);
        let error = pool
            .manager
            .get_runners(None)
            .await
            .expect_err("no answer is whole");
        assert!(
            matches!(error.kind(), ErrorKind::BadAnswer | ErrorKind::Unreachable),
            "{error:?}"
        );
    });
}

#[test]
fn a_launch_whose_answer_is_lost_is_repeated_without_a_second_instance() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let lost = Rule::of("RunInstances", What::AfterEffect(500, "InternalError")).times(1);
        site.proxy.plant(pool.endpoint(), lost);
        pool.create()
            .await
            .expect("the second attempt gets the first one's answer");
        assert_eq!(
            site.proxy.calls(pool.endpoint(), Some("RunInstances")),
            3,
            "with the dry run"
        );
        assert_eq!(site.instances(pool.endpoint()).await.len(), 1);
    });
}

#[test]
fn a_launch_that_times_out_after_it_took_effect_is_one_instance() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let late = Rule::of("RunInstances", What::HangAfterEffect).times(1);
        site.proxy.plant(pool.endpoint(), late);
        pool.create()
            .await
            .expect("the second attempt gets the first one's answer");
        assert_eq!(site.instances(pool.endpoint()).await.len(), 1);
    });
}

#[test]
fn a_second_launch_of_a_name_adopts_the_first_whatever_its_credential() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let id = InstanceId::random();
        pool.manager
            .create_runner(request(id.clone()))
            .await
            .expect("a launch");
        let mut again = request(id);
        again.credential = runner_manager_core::RunnerCredential::JitConfig(
            runner_manager_core::Secret::new("b3RoZXI="),
        );
        pool.manager
            .create_runner(again)
            .await
            .expect("the first is adopted");
        assert_eq!(site.instances(pool.endpoint()).await.len(), 1);
    });
}

#[test]
fn a_name_whose_instance_has_ended_can_be_launched_again() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let id = pool.create().await.expect("a launch");
        pool.manager
            .delete_runner(&id, &token())
            .await
            .expect("a delete");
        // The same call again, whose client token is used up, and then one that differs.
        for credential in ["c2VjcmV0", "b3RoZXI="] {
            let mut again = request(id.clone());
            again.credential = RunnerCredential::JitConfig(Secret::new(credential));
            pool.manager.create_runner(again).await.expect("a launch");
            assert_eq!(site.instances(pool.endpoint()).await.len(), 1);
            let deleted = pool.manager.delete_runner(&id, &token()).await;
            assert!(deleted.expect("a delete").is_some());
        }
    });
}
