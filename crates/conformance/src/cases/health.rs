//! What is seen of a runner.

use runner_manager_core::{CloudRunnerState, HealthState, Support};

use crate::case::check;
use crate::{Bench, Fault, Outcome, Verdict};

pub(super) async fn a_job_is_seen(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    if let Support::Unsupported(why) = manager.capability().guest {
        return Ok(Outcome::Refused(why));
    }
    let name = b.runner(&manager).await?;
    b.start_job(&name).await?;
    let found = b
        .until(&manager, name.instance_id(), "busy", |r| {
            r.busy == Some(true)
        })
        .await?;
    check!(found.health == HealthState::Healthy, "{found:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn a_stopped_instance_is_unhealthy(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let (ill, well) = (b.runner(&manager).await?, b.runner(&manager).await?);
    b.harness.stop(&ill).await?;
    let found = b
        .until(&manager, ill.instance_id(), "unhealthy", |r| {
            r.health == HealthState::Unhealthy
        })
        .await?;
    check!(found.state != CloudRunnerState::Active, "{found:?}");
    check!(!found.health_reason.is_empty(), "no reason: {found:?}");
    b.listening(&manager, well.instance_id()).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_vanished_instance_is_none(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.harness.vanish(&name).await?;
    let found = manager.get_runner(name.instance_id()).await?;
    check!(found.is_none(), "{found:?}");
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_guest_that_cannot_be_asked_is_unknown(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    b.harness.fail(&b.prefix, Fault::Guest).await?;
    let found = manager.get_runner(name.instance_id()).await?;
    b.harness.mend(&b.prefix).await;
    let is_unknown =
        |r: &runner_manager_core::CloudRunnerInstance| r.health == HealthState::Unknown;
    check!(found.as_ref().is_some_and(is_unknown), "{found:?}");
    Ok(Outcome::Verified)
}
