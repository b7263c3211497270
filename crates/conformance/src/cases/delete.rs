//! Deleting runners.

use std::time::{Duration, Instant};

use runner_manager_core::InstanceId;

use crate::bench::{poll_times, token};
use crate::case::check;
use crate::{Bench, Failure, Fault, Outcome, Verdict};

pub(super) async fn the_metrics_name_the_runner(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    let metrics = manager.delete_runner(name.instance_id(), &token()).await?;
    let named = metrics.as_ref().map(|metrics| &metrics.runner_name);
    check!(named == Some(&name), "{metrics:?}");
    b.nothing_left().await?;
    let found = manager.get_runner(name.instance_id()).await?;
    check!(found.is_none(), "{found:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn an_unknown_id_is_none(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let gone = manager
        .delete_runner(&InstanceId::random(), &token())
        .await?;
    check!(gone.is_none(), "{gone:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn twice_is_none(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    manager.delete_runner(name.instance_id(), &token()).await?;
    let again = manager.delete_runner(name.instance_id(), &token()).await?;
    check!(again.is_none(), "{again:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn a_busy_runner_goes_too(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.start_job(&name).await?;
    manager.delete_runner(name.instance_id(), &token()).await?;
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn at_once_from_two_managers(b: Bench) -> Verdict {
    let (one, two) = (b.manager().await?, b.manager().await?);
    let name = b.runner(&one).await?;
    let token = token();
    let (first, second) = futures::join!(
        one.delete_runner(name.instance_id(), &token),
        two.delete_runner(name.instance_id(), &token)
    );
    check!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_stopped_instance_goes(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.harness.stop(&name).await?;
    manager.delete_runner(name.instance_id(), &token()).await?;
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_refused_delete_can_be_repeated(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.harness.fail(&b.prefix, Fault::Terminate).await?;
    let refused = manager.delete_runner(name.instance_id(), &token()).await;
    check!(refused.is_err(), "{refused:?}");
    let found = manager.get_runner(name.instance_id()).await?;
    check!(found.is_some(), "it is not shown any more, and exists");
    b.harness.mend(&b.prefix).await;
    manager.delete_runner(name.instance_id(), &token()).await?;
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn dropped_anywhere_it_can_be_repeated(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let begun = Instant::now();
    let (mut times, mut is_slow) = (1, None);
    while times <= 64 {
        let name = b.runner(&manager).await?;
        // At every moment; where a runner takes long to come up, the later ones more widely.
        let slow = *is_slow.get_or_insert_with(|| begun.elapsed() > Duration::from_secs(1));
        let (token, id) = (token(), name.instance_id());
        let done = poll_times(manager.delete_runner(id, &token), times).await;
        let done = done.transpose()?.is_some();
        manager.delete_runner(id, &token).await?;
        let cleaned = b.cleaned(&manager).await;
        cleaned.map_err(|left| Failure::new(format!("dropped after {times} polls, {left}")))?;
        if done {
            return Ok(Outcome::Verified);
        }
        times += if slow { 1 + times / 6 } else { 1 };
    }
    Ok(Outcome::Verified)
}

/// How many moments of a launch a deletion is tried at.
const MOMENTS: u32 = 5;

pub(super) async fn while_it_is_created(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let begun = Instant::now();
    let name = b.runner(&manager).await?;
    let whole = begun.elapsed();
    manager.delete_runner(name.instance_id(), &token()).await?;
    for moment in 0..MOMENTS {
        let id = InstanceId::random();
        let token = token();
        let create = manager.create_runner(b.request(id.clone()));
        let delete = async {
            // Without a clock where launches take no time.
            for _ in 0..moment {
                tokio::task::yield_now().await;
            }
            let pause = whole * moment / MOMENTS;
            if pause > Duration::from_millis(50) {
                tokio::time::sleep(pause).await;
            }
            manager.delete_runner(&id, &token).await
        };
        // Either may come first, and one may be in the way of the other.
        let _ = futures::join!(create, delete);
        manager.delete_runner(&id, &token).await?;
        b.cleaned(&manager).await?;
    }
    Ok(Outcome::Verified)
}

/// A deletion that fails in this way can be repeated, and nothing is left.
async fn fails_and_is_repeated(b: Bench, fault: Fault) -> Verdict {
    let manager = b.manager().await?;
    let (name, other) = (b.runner(&manager).await?, b.runner(&manager).await?);
    manager.delete_runner(other.instance_id(), &token()).await?;
    b.harness.fail(&b.prefix, fault).await?;
    let failed = manager.delete_runner(name.instance_id(), &token()).await;
    check!(failed.is_err(), "the failure is not told: {failed:?}");
    b.harness.mend(&b.prefix).await;
    manager.delete_runner(name.instance_id(), &token()).await?;
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn one_that_fails_midway_can_be_repeated(b: Bench) -> Verdict {
    fails_and_is_repeated(b, Fault::TerminateMidway).await
}

pub(super) async fn one_whose_answer_is_lost_can_be_repeated(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.harness
        .fail(&b.prefix, Fault::TerminateAfterEffect)
        .await?;
    // A backend that looks again may know that it took effect.
    let _ = manager.delete_runner(name.instance_id(), &token()).await;
    b.harness.mend(&b.prefix).await;
    let again = manager.delete_runner(name.instance_id(), &token()).await?;
    check!(again.is_none(), "it took effect, and is there: {again:?}");
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}
