//! What is seen of a runner.

use std::time::{Duration, Instant};

use runner_manager_core::{
    CloudInitStatus, CloudRunnerState, Connected, ExchangeFile, HealthState, RunnerName, Support,
    Timings,
};

use crate::bench::cleanup;
use crate::case::check;
use crate::{Bench, Failure, Fault, Outcome, Planted, Verdict};

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
    if let Support::Unsupported(why) = manager.capability().guest {
        return judged_without_guest(&b, &manager, &name, why).await;
    }
    b.harness.fail(&b.prefix, Fault::Guest).await?;
    let found = manager.get_runner(name.instance_id()).await?;
    b.harness.mend(&b.prefix).await;
    let is_unknown =
        |r: &runner_manager_core::CloudRunnerInstance| r.health == HealthState::Unknown;
    check!(found.as_ref().is_some_and(is_unknown), "{found:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn every_native_state_is_mapped(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let mut cannot = None;
    for (native, wanted) in b.harness.native_states() {
        let name = b.instance(&manager).await?;
        match b.harness.force_state(&name, native).await {
            Ok(()) => is_shown_as(&b, &manager, &name, native, &wanted).await?,
            Err(reason) => cannot = Some(reason),
        }
        b.harness.mend(&b.prefix).await;
        manager
            .delete_runner(name.instance_id(), &crate::bench::token())
            .await?;
    }
    b.cleaned(&manager).await?;
    match cannot {
        Some(reason) => Err(reason.into()),
        None => Ok(Outcome::Verified),
    }
}

async fn is_shown_as(
    b: &Bench,
    manager: &Connected,
    name: &RunnerName,
    native: &str,
    wanted: &CloudRunnerState,
) -> Result<(), Failure> {
    let end = Instant::now() + b.harness.patience();
    loop {
        let found = manager.get_runner(name.instance_id()).await?;
        let same = match &found {
            Some(runner) => runner.state == *wanted,
            // What is deleted need not be shown.
            None => *wanted == CloudRunnerState::Deleted,
        };
        if same {
            return Ok(());
        }
        let state = found.map(|runner| runner.state);
        check!(
            Instant::now() < end,
            "the native state {native:?} is shown as {state:?}, not as {wanted:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A time past the boot time-out.
fn past_boot() -> Duration {
    Timings::default().boot_timeout + Duration::from_secs(60)
}

/// Brings an instance into a state that counts as being made.
pub(super) async fn stick_in_creation(
    b: &Bench,
    manager: &Connected,
) -> Result<RunnerName, Failure> {
    let name = b.runner(manager).await?;
    let native = b.harness.stuck_state()?;
    b.harness.force_state(&name, native).await?;
    Ok(name)
}

pub(super) async fn stuck_in_creation_is_unhealthy_after_the_boot_time(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = stick_in_creation(&b, &manager).await?;
    let young = b.look(&manager, &name).await?;
    check!(young.health == HealthState::Healthy, "at first: {young:?}");
    b.clock.advance(past_boot());
    let old = b.look(&manager, &name).await?;
    check!(old.health == HealthState::Unhealthy, "later: {old:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn what_cannot_be_reached_is_unhealthy_after_the_boot_time(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    if let Support::Unsupported(why) = manager.capability().guest {
        return judged_without_guest(&b, &manager, &name, why).await;
    }
    b.harness.fail(&b.prefix, Fault::GuestUnreachable).await?;
    let young = b.look(&manager, &name).await?;
    check!(
        young.health == HealthState::Healthy,
        "while it boots: {young:?}"
    );
    b.clock.advance(past_boot());
    let old = b.look(&manager, &name).await?;
    b.harness.mend(&b.prefix).await;
    check!(old.health == HealthState::Unhealthy, "later: {old:?}");
    Ok(Outcome::Verified)
}

/// The refusal where there is no way into an instance: nothing is made up about its inside.
pub(super) async fn judged_without_guest(
    b: &Bench,
    manager: &Connected,
    name: &RunnerName,
    why: &'static str,
) -> Verdict {
    let found = b.look(manager, name).await?;
    check!(found.busy.is_none(), "{found:?}");
    check!(found.health == HealthState::Healthy, "{found:?}");
    Ok(Outcome::Refused(why))
}

pub(super) async fn a_guest_that_hangs_is_unknown_in_time_and_kept(b: Bench) -> Verdict {
    let limit = Duration::from_millis(500);
    let timings = Timings {
        guest_timeout: limit,
        ..Bench::timings()
    };
    let (manager, hasty) = (b.manager().await?, b.manager_with(&timings).await?);
    let name = b.runner(&manager).await?;
    if let Support::Unsupported(why) = manager.capability().guest {
        return judged_without_guest(&b, &manager, &name, why).await;
    }
    b.harness.fail(&b.prefix, Fault::GuestHangs).await?;
    b.clock.advance(past_boot());
    let found = b.ends(limit, b.look(&hasty, &name)).await??;
    let removed = b.ends(limit, cleanup(&hasty)).await?;
    b.harness.mend(&b.prefix).await;
    check!(found.health == HealthState::Unknown, "{found:?}");
    check!(removed.metrics.is_empty(), "{removed:?}");
    b.listening(&manager, name.instance_id()).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn each_status_of_cloud_init_is_judged(b: Bench) -> Verdict {
    use CloudInitStatus as S;
    use HealthState::{Healthy, Unhealthy};
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    if let Support::Unsupported(why) = manager.capability().cloud_init {
        let found = b.look(&manager, &name).await?;
        check!(
            found.health == Healthy,
            "judged without cloud-init: {found:?}"
        );
        return Ok(Outcome::Refused(why));
    }
    for (status, health) in [
        (S::NotStarted, Healthy),
        (S::Running, Healthy),
        (S::Done, Unhealthy),
        (S::Degraded, Unhealthy),
        (S::Error, Unhealthy),
        (S::Disabled, Unhealthy),
    ] {
        b.harness.set_cloud_init(&name, status).await?;
        let found = b.look(&manager, &name).await?;
        check!(found.health == health, "cloud-init {status}: {found:?}");
    }
    Ok(Outcome::Verified)
}

pub(super) async fn installed_and_not_running_is_unhealthy(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let (ill, well) = (b.runner(&manager).await?, b.runner(&manager).await?);
    if let Support::Unsupported(why) = manager.capability().guest {
        return judged_without_guest(&b, &manager, &well, why).await;
    }
    b.harness.end_runner(&ill).await?;
    b.unhealthy(&manager, &ill).await?;
    let removed = cleanup(&manager).await;
    let gone: Vec<_> = removed.metrics.iter().map(|m| &m.runner_name).collect();
    check!(gone == [&ill], "{removed:?}");
    b.listening(&manager, well.instance_id()).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn never_installed_is_unhealthy_after_the_boot_time(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    if let Support::Unsupported(why) = manager.capability().guest {
        return judged_without_guest(&b, &manager, &name, why).await;
    }
    let file = ExchangeFile::Installed;
    b.harness.put_file(&name, file, Planted::Nothing).await?;
    let young = b.look(&manager, &name).await?;
    check!(young.health == HealthState::Healthy, "at first: {young:?}");
    b.clock.advance(past_boot());
    let old = b.look(&manager, &name).await?;
    check!(old.health == HealthState::Unhealthy, "later: {old:?}");
    let removed = cleanup(&manager).await;
    check!(removed.metrics.len() == 1, "{removed:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn times_are_those_of_the_world_in_every_zone(b: Bench) -> Verdict {
    let slack = Duration::from_secs(60);
    let manager = b.manager().await?;
    let before = jiff::Timestamp::now() - slack;
    let name = b.runner(&manager).await?;
    let after = jiff::Timestamp::now() + slack;
    let at = b.look(&manager, &name).await?.created_at;
    check!(
        before <= at && at <= after,
        "made between {before} and {after}, it is said to be made at {at}"
    );
    Ok(Outcome::Verified)
}
