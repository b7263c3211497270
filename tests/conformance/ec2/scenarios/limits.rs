//! EC2 asks for fewer calls; credentials run out; many calls become few.

use std::time::Duration;

use runner_manager_core::{BudgetLimits, Budgets, Effect, ErrorKind, Retry};
use serde_json::json;

use crate::proxy::{Rule, What};
use crate::{context, pool, request, run, site, token};

const THROTTLED: What = What::Refuse(503, "RequestLimitExceeded");

#[test]
fn throttling_shrinks_the_budget_that_pools_of_an_account_share() {
    run(async |site| {
        let budgets = Budgets::default();
        let (one, two) = (site::prefix(), site::prefix());
        let section = site.section(one.as_str());
        let first = site::connect(context(&one, &budgets), section.clone())
            .await
            .expect("a pool");
        let second = site::connect(context(&two, &budgets), section)
            .await
            .expect("a pool");
        let address = site.proxy.endpoint(one.as_str());
        let account = format!("ec2 123456789012 us-east-1 {address}");
        let budget = budgets.of(&account, BudgetLimits::default());
        let whole = budget.rate();
        assert!(
            (whole - 500.0).abs() < 1.0,
            "the pools do not use this budget: {whole}"
        );
        site.proxy.plant(
            one.as_str(),
            Rule::of("DescribeInstances", THROTTLED).times(2),
        );
        first
            .get_runners(None)
            .await
            .expect("the third attempt is let through");
        let shrunk = budget.rate();
        assert!(shrunk <= whole / 2.0, "{shrunk} of {whole} calls a second");
        second
            .get_runners(None)
            .await
            .expect("the other pool goes on, slower");
        assert!(budget.rate() < whole);
    });
}

#[test]
fn a_launch_that_stays_throttled_ends_after_few_calls_and_leaves_nothing() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        site.proxy
            .plant(pool.endpoint(), Rule::of("RunInstances", THROTTLED));
        let before = site.proxy.calls(pool.endpoint(), Some("RunInstances"));
        let error = pool.create().await.expect_err("every attempt is throttled");
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::RateLimited, Effect::None)
        );
        assert!(matches!(error.retry(), Retry::After(_)), "{error:?}");
        let calls = site.proxy.calls(pool.endpoint(), Some("RunInstances")) - before;
        assert_eq!(calls, 3);
        assert_eq!(site.instances(pool.endpoint()).await.len(), 0);
    });
}

#[test]
fn expired_credentials_are_told_apart_and_nothing_is_retried_or_lost() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        pool.create().await.expect("a launch");
        site.proxy.plant(
            pool.endpoint(),
            Rule::of("", What::Refuse(400, "RequestExpired")),
        );
        let before = site.proxy.calls(pool.endpoint(), None);
        let error = pool
            .create()
            .await
            .expect_err("the credentials have expired");
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        let listed = pool
            .manager
            .get_runners(None)
            .await
            .expect_err("a list needs them too");
        assert_eq!(listed.kind(), ErrorKind::Unauthenticated);
        assert_eq!(
            site.proxy.calls(pool.endpoint(), None) - before,
            3,
            "a launch, its undoing, a list"
        );
        site.proxy.mend(pool.endpoint());
        assert_eq!(
            pool.manager.get_runners(None).await.expect("a list").len(),
            1
        );
    });
}

#[test]
fn many_looks_and_ends_at_once_are_few_calls() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let made = (0..30).map(|_| pool.create());
        let made = futures::future::try_join_all(made)
            .await
            .expect("thirty launches");
        let (looks, ends) = ("DescribeInstances", "TerminateInstances");
        let before = site.proxy.calls(pool.endpoint(), Some(looks));
        let token = token();
        let deleted = made.iter().map(|id| pool.manager.delete_runner(id, &token));
        futures::future::try_join_all(deleted)
            .await
            .expect("thirty deletes");
        // Thirty instances are six pages.
        let looked = site.proxy.calls(pool.endpoint(), Some(looks)) - before;
        let ended = site.proxy.calls(pool.endpoint(), Some(ends));
        assert!(
            looked <= 18 && ended <= 4,
            "{looked} looks and {ended} ends"
        );
        assert_eq!(site.instances(pool.endpoint()).await.len(), 0);
    });
}

#[test]
fn one_refused_end_among_many_spoils_no_other() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let made = (0..3).map(|_| pool.create());
        let made = futures::future::try_join_all(made)
            .await
            .expect("three launches");
        let kept = site
            .instance(&pool.name(&made[1]))
            .await
            .expect("it is there");
        let what = What::Refuse(400, "OperationNotPermitted");
        for at in 1..=3 {
            let rule = Rule::of("TerminateInstances", what);
            let rule = rule.when(format!("InstanceId.{at}={kept}"));
            site.proxy.plant(pool.endpoint(), rule);
        }
        let token = token();
        let deleted = made.iter().map(|id| pool.manager.delete_runner(id, &token));
        let deleted = futures::future::join_all(deleted).await;
        let failed: Vec<bool> = deleted.iter().map(Result::is_err).collect();
        assert_eq!(failed, [false, true, false]);
        assert_eq!(site.instances(pool.endpoint()).await.len(), 1);
    });
}

#[test]
fn the_calls_of_a_runners_life_are_counted() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let start = site.proxy.tally(pool.endpoint());
        println!("ec2 calls of a start: {start:?}");
        let before = site.proxy.calls(pool.endpoint(), None);
        let id = pool.create().await.expect("a launch");
        let launch = site.proxy.calls(pool.endpoint(), None) - before;
        pool.manager
            .delete_runner(&id, &token())
            .await
            .expect("a delete");
        let life = site.proxy.calls(pool.endpoint(), None) - before;
        println!(
            "ec2 calls of a runner's life: {launch} to launch, {} to delete",
            life - launch
        );
        assert_eq!((launch, life), (1, 3));
        let many = futures::future::join_all((0..20).map(|_| async {
            let id = pool
                .manager
                .create_runner(request(runner_manager_core::InstanceId::random()));
            id.await.expect("a launch")
        }));
        let before = site.proxy.calls(pool.endpoint(), None);
        let many = many.await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let token = token();
        let gone = many.iter().map(|id| pool.manager.delete_runner(id, &token));
        futures::future::try_join_all(gone).await.expect("deletes");
        let calls = site.proxy.calls(pool.endpoint(), None) - before;
        println!("ec2 calls of 20 runners launched and deleted together: {calls}, with pages of 5");
        assert!(calls < 40, "{calls}");
    });
}
