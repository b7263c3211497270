//! Cleaning up.

use std::time::Duration;

use futures::StreamExt;
use runner_manager_core::{HealthState, InstanceId, Timings};

use crate::bench::{cleanup, token};
use crate::case::check;
use crate::{Bench, Fault, Outcome, Verdict};

pub(super) async fn healthy_and_busy_runners_stay(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let (idle, busy) = (b.runner(&manager).await?, b.runner(&manager).await?);
    b.start_job(&busy).await?;
    for _ in 0..2 {
        let removed = cleanup(&manager).await;
        check!(
            removed.metrics.is_empty() && removed.errors.is_empty(),
            "{removed:?}"
        );
    }
    let left = manager.get_runners(None).await?;
    check!(
        left.len() == 2,
        "{idle} and {busy} should be there: {left:?}"
    );
    Ok(Outcome::Verified)
}

pub(super) async fn unhealthy_runners_go(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let (ill, well) = (b.runner(&manager).await?, b.runner(&manager).await?);
    b.harness.stop(&ill).await?;
    b.until(&manager, ill.instance_id(), "unhealthy", |r| {
        r.health == HealthState::Unhealthy
    })
    .await?;
    let removed = cleanup(&manager).await;
    let gone: Vec<_> = removed.metrics.into_iter().map(|m| m.runner_name).collect();
    check!(gone == [ill], "{gone:?} {:?}", removed.errors);
    manager.delete_runner(well.instance_id(), &token()).await?;
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn unknown_runners_stay(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.harness.fail(&b.prefix, Fault::Guest).await?;
    let removed = cleanup(&manager).await;
    b.harness.mend(&b.prefix).await;
    check!(removed.metrics.is_empty(), "{removed:?}");
    b.listening(&manager, name.instance_id()).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn nothing_young_is_touched(b: Bench) -> Verdict {
    let timings = Timings {
        grace: Duration::from_secs(3_600),
        ..Timings::default()
    };
    let manager = b.manager_with(&timings).await?;
    let ill = b.runner(&manager).await?;
    b.harness.stop(&ill).await?;
    b.until(&manager, ill.instance_id(), "unhealthy", |r| {
        r.health == HealthState::Unhealthy
    })
    .await?;
    b.leave_leftovers().await?;
    let before = b.harness.count(&b.prefix).await;
    let removed = cleanup(&manager).await;
    check!(removed.metrics.is_empty(), "{removed:?}");
    let after = b.harness.count(&b.prefix).await;
    check!(before == after, "{before:?} became {after:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn leftovers_go_after_the_grace_period(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    for name in b.leave_leftovers().await? {
        check!(b.left().await > 0, "the harness counts no leftover");
        let found = manager.get_runner(name.instance_id()).await?;
        check!(found.is_none(), "a leftover is no runner: {found:?}");
    }
    b.cleaned(&manager).await?;
    let again = cleanup(&manager).await;
    check!(
        again.metrics.is_empty() && again.errors.is_empty(),
        "{again:?}"
    );
    Ok(Outcome::Verified)
}

pub(super) async fn a_longer_prefix_is_untouched(b: Bench) -> Verdict {
    let (manager, neighbour) = (b.manager().await?, b.neighbour().await?);
    let theirs = b.runner(&neighbour).await?;
    b.harness.stop(&theirs).await?;
    let prefix = neighbour.name_prefix().clone();
    let there = b.with_prefix(prefix.clone());
    there.leave_leftovers().await?;
    let before = b.harness.count(&prefix).await;
    for _ in 0..3 {
        cleanup(&manager).await;
    }
    let after = b.harness.count(&prefix).await;
    neighbour
        .delete_runner(theirs.instance_id(), &token())
        .await?;
    there.cleaned(&neighbour).await?;
    check!(before == after, "{before:?} became {after:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn what_lacks_the_mark_is_untouched(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.prefix.runner_name(&InstanceId::random());
    b.harness.make_stranger(&name.to_string()).await?;
    for _ in 0..3 {
        cleanup(&manager).await;
    }
    check!(
        b.harness.take_stranger(&name.to_string()).await,
        "the stranger's is gone"
    );
    Ok(Outcome::Verified)
}

pub(super) async fn two_managers_at_once_do_no_harm(b: Bench) -> Verdict {
    let (one, two) = (b.manager().await?, b.manager().await?);
    let (ill, well) = (b.runner(&one).await?, b.runner(&one).await?);
    b.harness.stop(&ill).await?;
    b.until(&one, ill.instance_id(), "unhealthy", |r| {
        r.health == HealthState::Unhealthy
    })
    .await?;
    let (first, second) = futures::join!(cleanup(&one), cleanup(&two));
    check!(
        first.errors.is_empty() && second.errors.is_empty(),
        "{first:?} {second:?}"
    );
    let left: Vec<_> = one
        .get_runners(None)
        .await?
        .into_iter()
        .map(|r| r.name)
        .collect();
    check!(left == [well], "{left:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn one_failure_does_not_end_it(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    for _ in 0..3 {
        let ill = b.runner(&manager).await?;
        b.harness.stop(&ill).await?;
        b.until(&manager, ill.instance_id(), "unhealthy", |r| {
            r.health == HealthState::Unhealthy
        })
        .await?;
    }
    b.harness.fail(&b.prefix, Fault::Terminate).await?;
    let removed = cleanup(&manager).await;
    b.harness.mend(&b.prefix).await;
    check!(!removed.errors.is_empty(), "the failure is not told");
    check!(
        removed.metrics.len() >= 2,
        "{} went, two should",
        removed.metrics.len()
    );
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn dropped_midway_it_can_be_repeated(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    for _ in 0..3 {
        let ill = b.runner(&manager).await?;
        b.harness.stop(&ill).await?;
        b.until(&manager, ill.instance_id(), "unhealthy", |r| {
            r.health == HealthState::Unhealthy
        })
        .await?;
    }
    let token = token();
    let mut stream = manager.cleanup(&token);
    let first = stream.next().await;
    drop(stream);
    check!(first.is_some(), "cleanup gave nothing");
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}
