//! Cleaning up.

use std::time::Duration;

use futures::StreamExt;
use runner_manager_core::{Connected, InstanceId, Support, Timings};

use super::health::{judged_without_guest, stick_in_creation};
use crate::bench::{cleanup, token};
use crate::case::check;
use crate::{Bench, Failure, Fault, Outcome, Verdict};

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
    b.unhealthy(&manager, &ill).await?;
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
    if let Support::Unsupported(why) = manager.capability().guest {
        return judged_without_guest(&b, &manager, &name, why).await;
    }
    b.harness.fail(&b.prefix, Fault::Guest).await?;
    let removed = cleanup(&manager).await;
    b.harness.mend(&b.prefix).await;
    check!(removed.metrics.is_empty(), "{removed:?}");
    b.listening(&manager, name.instance_id()).await?;
    Ok(Outcome::Verified)
}

/// One unhealthy runner and a leftover of each kind.
async fn ill_and_leftovers(b: &Bench, manager: &Connected) -> Result<(), Failure> {
    let ill = b.runner(manager).await?;
    b.harness.stop(&ill).await?;
    b.unhealthy(manager, &ill).await?;
    b.leave_leftovers().await?;
    Ok(())
}

pub(super) async fn nothing_is_touched_before_the_grace_period(b: Bench) -> Verdict {
    let grace = Duration::from_secs(3_600);
    let manager = b
        .manager_with(&Timings {
            grace,
            ..Timings::default()
        })
        .await?;
    ill_and_leftovers(&b, &manager).await?;
    let before = b.harness.count(&b.prefix).await;
    for step in [Duration::ZERO, grace / 2, grace / 3] {
        b.clock.advance(step);
        let removed = cleanup(&manager).await;
        check!(removed.metrics.is_empty(), "{removed:?}");
        let after = b.harness.count(&b.prefix).await;
        check!(before == after, "{before:?} became {after:?}");
    }
    Ok(Outcome::Verified)
}

pub(super) async fn all_goes_after_the_grace_period(b: Bench) -> Verdict {
    let grace = Duration::from_secs(3_600);
    let manager = b
        .manager_with(&Timings {
            grace,
            ..Timings::default()
        })
        .await?;
    ill_and_leftovers(&b, &manager).await?;
    // What the cloud does not say the age of counts from here.
    cleanup(&manager).await;
    b.clock.advance(grace + Duration::from_secs(60));
    let removed = cleanup(&manager).await;
    check!(removed.metrics.len() == 1, "{removed:?}");
    check!(removed.errors.is_empty(), "{removed:?}");
    b.nothing_left().await?;
    let again = cleanup(&manager).await;
    check!(
        again.metrics.is_empty() && again.errors.is_empty(),
        "{again:?}"
    );
    Ok(Outcome::Verified)
}

pub(super) async fn leftovers_of_each_kind_go_and_are_no_runners(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let whole = b.runner(&manager).await?;
    let parts = b.harness.count(&b.prefix).await;
    let parts = parts.values().filter(|count| **count > 0).count();
    let kinds = b.harness.leftover_kinds();
    check!(
        parts <= 1 || !kinds.is_empty(),
        "an instance has {parts} parts, and none of them can be left"
    );
    for kind in kinds {
        let name = b.prefix.runner_name(&InstanceId::random());
        b.harness.leave_leftover(&name, kind).await?;
        let counts = b.harness.count(&b.prefix).await;
        let counted = counts.get(kind).copied().unwrap_or(0);
        let found = manager.get_runner(name.instance_id()).await?;
        check!(found.is_none(), "a leftover is no runner: {found:?}");
        let shown = b.names(&manager).await?;
        check!(shown == [whole.clone()], "{kind} are listed: {shown:?}");
        let removed = cleanup(&manager).await;
        check!(removed.errors.is_empty(), "{kind}: {removed:?}");
        let left = b.harness.count(&b.prefix).await;
        let left = left.get(kind).copied().unwrap_or(0);
        check!(
            left + 1 == counted,
            "{counted} {kind}, after cleanup {left}"
        );
    }
    b.listening(&manager, whole.instance_id()).await?;
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
    b.unhealthy(&one, &ill).await?;
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
        b.unhealthy(&manager, &ill).await?;
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
        b.unhealthy(&manager, &ill).await?;
    }
    let token = token();
    let mut stream = manager.cleanup(&token);
    let first = stream.next().await;
    drop(stream);
    check!(first.is_some(), "cleanup gave nothing");
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn older_twins_go_and_the_newest_stays(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    let newest = b.look(&manager, &name).await?.native_id;
    let before = b.harness.count(&b.prefix).await;
    b.harness.make_twin(&name).await?;
    let with_twin = b.harness.count(&b.prefix).await;
    check!(with_twin != before, "the harness counts no twin");
    let removed = cleanup(&manager).await;
    check!(removed.errors.is_empty(), "{removed:?}");
    let after = b.harness.count(&b.prefix).await;
    check!(
        before == after,
        "{before:?} with one, {after:?} after cleanup"
    );
    let left = b.look(&manager, &name).await?.native_id;
    check!(left == newest, "{left} is left, the newest was {newest}");
    Ok(Outcome::Verified)
}

pub(super) async fn what_is_stuck_in_creation_goes(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    stick_in_creation(&b, &manager).await?;
    let kept = cleanup(&manager).await;
    check!(kept.metrics.is_empty(), "it was young: {kept:?}");
    b.clock.advance(Timings::default().boot_timeout * 2);
    let removed = cleanup(&manager).await;
    check!(removed.metrics.len() == 1, "{removed:?}");
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}
