//! Faults of the cloud's API.

use std::time::{Duration, Instant};

use futures::future::join_all;
use runner_manager_core::{Connected, Error, ErrorKind, InstanceId, Retry, Timings};

use crate::bench::{cleanup, flush, token};
use crate::case::check;
use crate::{Bench, Failure, Fault, Outcome, Verdict};

/// How many tasks ask at once while the rate of requests is measured.
const TASKS: usize = 8;
/// The fewest requests that a window must see for its rate to say anything.
const ENOUGH: usize = 12;
/// How many times as long a window may become to see them, where backend or machine are slow.
const LONGER: u32 = 8;
/// The most requests that one call may cost when each of them fails.
const MOST: usize = 12;

/// Asks again and again for a window's time, and says how many requests that made.
async fn hammer(b: &Bench, manager: &Connected, window: Duration) -> Result<usize, Failure> {
    let before = b.harness.requests(&b.prefix)?;
    let end = Instant::now() + window;
    let task = || async {
        while Instant::now() < end {
            // What comes of it does not matter here.
            let asked = manager.get_runners(None);
            let left = end.saturating_duration_since(Instant::now());
            let _ = tokio::time::timeout(left, asked).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    join_all((0..TASKS).map(|_| task())).await;
    Ok(b.harness.requests(&b.prefix)? - before)
}

pub(super) async fn throttling_makes_the_rate_of_requests_fall(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    let mut window = b.harness.window();
    let longest = window * LONGER;
    let mut free = hammer(&b, &manager, window).await?;
    while free < ENOUGH && window < longest {
        window *= 2;
        free = hammer(&b, &manager, window).await?;
    }
    check!(free >= ENOUGH, "only {free} requests in {window:?}");
    b.harness.fail(&b.prefix, Fault::Throttle).await?;
    hammer(&b, &manager, window).await?;
    let throttled = hammer(&b, &manager, window).await?;
    b.harness.mend(&b.prefix).await;
    check!(
        throttled <= free / 2,
        "{free} requests in a window without throttling, {throttled} with it"
    );
    let end = Instant::now() + b.harness.patience();
    while manager.get_runner(name.instance_id()).await.is_err() {
        check!(Instant::now() < end, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(Outcome::Verified)
}

pub(super) async fn throttling_is_told_with_a_time_to_come_again(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.harness.fail(&b.prefix, Fault::Throttle).await?;
    let answer = manager.get_runner(name.instance_id()).await;
    b.harness.mend(&b.prefix).await;
    let Err(error) = answer else {
        return Err(Failure::new(format!("it was not throttled: {answer:?}")));
    };
    check!(error.kind() == ErrorKind::RateLimited, "{error:?}");
    let told = matches!(error.retry(), Retry::After(pause) if pause > Duration::ZERO);
    check!(told, "{error:?}");
    Ok(Outcome::Verified)
}

/// What every call must do when the cloud gives no answer worth the name: fail, in time, and
/// take nothing for gone.
async fn calls_fail(b: &Bench, manager: &Connected, id: &InstanceId, most: usize) -> Verdict {
    let mut costs = Vec::new();
    let mut spent = || -> Result<usize, Failure> {
        let now = b.harness.requests(&b.prefix).unwrap_or(0);
        let last = costs.last().copied().unwrap_or(now);
        costs.push(now);
        Ok(now - last)
    };
    spent()?;
    let got = manager.get_runner(id).await;
    check!(got.is_err(), "an instance that exists: {got:?}");
    let cost = spent()?;
    check!(cost <= most, "one get made {cost} requests");
    let listed = manager.get_runners(None).await;
    check!(listed.is_err(), "a list: {listed:?}");
    let cost = spent()?;
    check!(cost <= most, "one list made {cost} requests");
    let deleted = manager.delete_runner(id, &token()).await;
    check!(deleted.is_err(), "a delete: {deleted:?}");
    let cost = spent()?;
    check!(cost <= most, "one delete made {cost} requests");
    for removed in [cleanup(manager).await, flush(manager, true).await] {
        check!(removed.metrics.is_empty(), "{removed:?}");
        check!(!removed.errors.is_empty(), "a cleanup says nothing");
    }
    Ok(Outcome::Verified)
}

pub(super) async fn retries_are_bounded_and_nothing_is_taken_for_gone(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.harness.fail(&b.prefix, Fault::Down).await?;
    let outcome = calls_fail(&b, &manager, name.instance_id(), MOST).await;
    b.harness.mend(&b.prefix).await;
    outcome?;
    b.listening(&manager, name.instance_id()).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_cloud_that_hangs_is_left_at_the_deadline(b: Bench) -> Verdict {
    let limit = Duration::from_millis(500);
    let timings = Timings {
        call_timeout: limit,
        launch_timeout: limit,
        ..Bench::timings()
    };
    let (manager, hasty) = (b.manager().await?, b.manager_with(&timings).await?);
    let name = b.runner(&manager).await?;
    b.harness.fail(&b.prefix, Fault::Hang).await?;
    // Three calls, a cleanup of two lists, and a flush of one more.
    let calls = calls_fail(&b, &hasty, name.instance_id(), usize::MAX);
    let outcome = b.ends(limit * 9, calls).await;
    b.harness.mend(&b.prefix).await;
    outcome??;
    b.listening(&manager, name.instance_id()).await?;
    Ok(Outcome::Verified)
}

/// Three runners, one of them busy, that lists show wrongly: none may go.
async fn all_live_through(b: &Bench, fault: Fault) -> Verdict {
    let manager = b.manager().await?;
    let mut names = Vec::new();
    for at in 0..3 {
        if at == 1 && fault == Fault::ListStale {
            // What lists show from now on is the first runner alone.
            b.harness.fail(&b.prefix, fault).await?;
        }
        names.push(b.runner(&manager).await?);
    }
    b.start_job(&names[1]).await?;
    if fault == Fault::ListTruncated {
        b.harness.fail(&b.prefix, fault).await?;
    }
    let before = b.harness.count(&b.prefix).await;
    for _ in 0..3 {
        let removed = cleanup(&manager).await;
        check!(removed.metrics.is_empty(), "{removed:?}");
    }
    let after = b.harness.count(&b.prefix).await;
    b.harness.mend(&b.prefix).await;
    check!(before == after, "{before:?} became {after:?}");
    names.sort();
    let left = b.names(&manager).await?;
    check!(left == names, "{left:?} are left of {names:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn truncated_lists_delete_nothing_alive(b: Bench) -> Verdict {
    all_live_through(&b, Fault::ListTruncated).await
}

pub(super) async fn stale_lists_delete_nothing_alive(b: Bench) -> Verdict {
    all_live_through(&b, Fault::ListStale).await
}

pub(super) async fn a_lost_answer_is_followed_by_no_second_instance(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let reference = b.runner(&manager).await?;
    let single = b.harness.count(&b.prefix).await;
    manager
        .delete_runner(reference.instance_id(), &token())
        .await?;
    b.harness.fail(&b.prefix, Fault::LaunchAfterEffect).await?;
    let id = InstanceId::random();
    let lost = manager.create_runner(b.request(id.clone())).await;
    b.harness.mend(&b.prefix).await;
    if lost.is_err() {
        manager.create_runner(b.request(id.clone())).await?;
    }
    b.listening(&manager, &id).await?;
    let counted = b.harness.count(&b.prefix).await;
    check!(counted == single, "{counted:?} where one is {single:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn a_list_that_fails_deletes_nothing(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let names = [b.runner(&manager).await?, b.runner(&manager).await?];
    let before = b.harness.count(&b.prefix).await;
    b.harness.fail(&b.prefix, Fault::List).await?;
    let removed = cleanup(&manager).await;
    b.harness.mend(&b.prefix).await;
    let after = b.harness.count(&b.prefix).await;
    check!(before == after, "{before:?} became {after:?}");
    let told = removed.errors.first().map(Error::kind);
    check!(told.is_some(), "the failure is not told");
    check!(removed.metrics.is_empty(), "{removed:?}");
    for name in &names {
        b.listening(&manager, name.instance_id()).await?;
    }
    Ok(Outcome::Verified)
}
