//! Flushing runners.

use std::collections::BTreeSet;

use runner_manager_core::{InstanceId, Support};

use crate::bench::{flush, token};
use crate::case::check;
use crate::{Bench, Fault, Outcome, Verdict};

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
