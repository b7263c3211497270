//! Deleting runners.

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
    for times in 1..=64 {
        let name = b.runner(&manager).await?;
        let (token, id) = (token(), name.instance_id());
        let done = poll_times(manager.delete_runner(id, &token), times).await;
        let done = done.transpose()?.is_some();
        manager.delete_runner(id, &token).await?;
        let cleaned = b.cleaned(&manager).await;
        cleaned.map_err(|left| Failure::new(format!("dropped after {times} polls, {left}")))?;
        if done {
            return Ok(Outcome::Verified);
        }
    }
    Ok(Outcome::Verified)
}
