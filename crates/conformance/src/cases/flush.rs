//! Flushing runners.

use std::collections::BTreeSet;
use std::time::Duration;

use runner_manager_core::{Connected, HealthState, InstanceId, Support};

use crate::bench::{flush, token};
use crate::case::check;
use crate::{Bench, Fault, JobFate, Outcome, Verdict};

pub(super) async fn nothing_gives_nothing(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let flushed = flush(&manager, true).await;
    check!(
        flushed.metrics.is_empty() && flushed.errors.is_empty(),
        "{flushed:?}"
    );
    Ok(Outcome::Verified)
}

pub(super) async fn idle_leaves_busy(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let (idle, busy) = (b.runner(&manager).await?, b.runner(&manager).await?);
    b.start_job(&busy).await?;
    let flushed = flush(&manager, false).await;
    check!(flushed.errors.is_empty(), "{:?}", flushed.errors);
    let left: Vec<_> = manager
        .get_runners(None)
        .await?
        .into_iter()
        .map(|r| r.name)
        .collect();
    if let Support::Unsupported(why) = manager.capability().idle_stop {
        check!(
            left.len() == 2,
            "a flush of idle runners removed some all the same: {left:?}"
        );
        return Ok(Outcome::Refused(why));
    }
    check!(
        left == [busy.clone()],
        "{idle} should be gone, {busy} should be there: {left:?}"
    );
    b.until(&manager, busy.instance_id(), "busy still", |r| {
        r.busy == Some(true)
    })
    .await?;
    Ok(Outcome::Verified)
}

pub(super) async fn busy_takes_all(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let (idle, busy) = (b.runner(&manager).await?, b.runner(&manager).await?);
    b.start_job(&busy).await?;
    let flushed = flush(&manager, true).await;
    check!(flushed.errors.is_empty(), "{:?}", flushed.errors);
    let gone: BTreeSet<_> = flushed.metrics.into_iter().map(|m| m.runner_name).collect();
    check!(gone == BTreeSet::from([idle, busy]), "{gone:?}");
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn one_failure_does_not_end_it(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    for _ in 0..3 {
        b.runner(&manager).await?;
    }
    b.harness.fail(&b.prefix, Fault::Terminate).await?;
    let flushed = flush(&manager, true).await;
    b.harness.mend(&b.prefix).await;
    check!(!flushed.errors.is_empty(), "the failure is not told");
    check!(
        flushed.metrics.len() >= 2,
        "{} went, two should",
        flushed.metrics.len()
    );
    flush(&manager, true).await;
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_longer_prefix_is_untouched(b: Bench) -> Verdict {
    let (manager, neighbour) = (b.manager().await?, b.neighbour().await?);
    let theirs = b.runner(&neighbour).await?;
    flush(&manager, true).await;
    let found = neighbour.get_runner(theirs.instance_id()).await?;
    neighbour
        .delete_runner(theirs.instance_id(), &token())
        .await?;
    check!(found.is_some(), "the neighbour's runner is gone");
    Ok(Outcome::Verified)
}

pub(super) async fn what_lacks_the_mark_is_untouched(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.prefix.runner_name(&InstanceId::random());
    b.harness.make_stranger(&name.to_string()).await?;
    flush(&manager, true).await;
    check!(
        b.harness.take_stranger(&name.to_string()).await,
        "the stranger's is gone"
    );
    Ok(Outcome::Verified)
}

/// How often a job and a flush meet.
const RACES: usize = 8;

pub(super) async fn a_job_that_arrives_between_check_and_stop_is_safe(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    for at in 0..RACES {
        let name = b.runner(&manager).await?;
        // Early enough to be there first, late enough to come too late, and between.
        let pause = Duration::from_millis(3) * u32::try_from(at).unwrap_or(0);
        let offer = async {
            tokio::time::sleep(pause).await;
            b.harness.offer_job(&name).await
        };
        let (flushed, offered) = futures::join!(flush(&manager, false), offer);
        offered?;
        // What has begun by now shows within this time.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let fate = b.harness.job_fate(&name).await;
        check!(
            fate != JobFate::Killed,
            "the job came {pause:?} after the flush began, and was killed: {flushed:?}"
        );
        if fate == JobFate::Runs {
            let found = b.look(&manager, &name).await?;
            check!(found.health == HealthState::Healthy, "{found:?}");
        }
        manager.delete_runner(name.instance_id(), &token()).await?;
    }
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn idle_leaves_what_cannot_be_asked(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    if let Support::Unsupported(why) = manager.capability().idle_stop {
        return stays(&b, &manager, why).await;
    }
    b.harness.fail(&b.prefix, Fault::Guest).await?;
    let flushed = flush(&manager, false).await;
    b.harness.mend(&b.prefix).await;
    check!(flushed.metrics.is_empty(), "{flushed:?}");
    check!(!flushed.errors.is_empty(), "the failure is not told");
    b.listening(&manager, name.instance_id()).await?;
    Ok(Outcome::Verified)
}

/// The refusal where an idle runner cannot be stopped safely: it stays.
async fn stays(b: &Bench, manager: &Connected, why: &'static str) -> Verdict {
    let before = b.names(manager).await?;
    let flushed = flush(manager, false).await;
    check!(flushed.metrics.is_empty(), "{flushed:?}");
    let after = b.names(manager).await?;
    check!(before == after, "{before:?} became {after:?}");
    Ok(Outcome::Refused(why))
}

pub(super) async fn busy_takes_what_cannot_be_asked(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    if let Support::Unsupported(why) = manager.capability().guest {
        let flushed = flush(&manager, true).await;
        check!(flushed.metrics.len() == 1, "{flushed:?}");
        b.nothing_left().await?;
        return Ok(Outcome::Refused(why));
    }
    b.harness.fail(&b.prefix, Fault::Guest).await?;
    let flushed = flush(&manager, true).await;
    b.harness.mend(&b.prefix).await;
    let gone: Vec<_> = flushed.metrics.iter().map(|m| &m.runner_name).collect();
    check!(gone == [&name], "{flushed:?}");
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn it_cleans_up_too(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let ill = b.runner(&manager).await?;
    b.harness.stop(&ill).await?;
    b.unhealthy(&manager, &ill).await?;
    b.leave_leftovers().await?;
    let flushed = flush(&manager, false).await;
    check!(flushed.errors.is_empty(), "{:?}", flushed.errors);
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}
