//! Creating runners.

use std::collections::BTreeSet;
use std::time::Duration;

use runner_manager_core::{
    CloudRunnerState, ErrorKind, HealthState, InstanceId, NamePrefix, RunnerCredential, Secret,
    Support, Timings,
};

use crate::bench::{cleanup, flush, poll_times, token};
use crate::case::check;
use crate::{Bench, Failure, Fault, Outcome, Verdict};

pub(super) async fn appears_by_name_and_id(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let id = InstanceId::random();
    manager.create_runner(b.harness.request(id.clone())).await?;
    let found = manager.get_runner(&id).await?;
    let Some(found) = found else {
        return Err(Failure::new("the runner is not found by its id"));
    };
    check!(found.instance_id == id, "another id: {found:?}");
    let name = format!("{}-{id}", b.prefix);
    check!(
        found.name.to_string() == name,
        "not named {name}: {found:?}"
    );
    check!(!found.native_id.is_empty(), "no native id: {found:?}");
    check!(b.left().await > 0, "the harness counts nothing");
    Ok(Outcome::Verified)
}

pub(super) async fn becomes_active_and_healthy(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    let found = manager.get_runner(name.instance_id()).await?;
    let is_well = found.as_ref().is_some_and(|runner| {
        runner.state == CloudRunnerState::Active
            && runner.health == HealthState::Healthy
            && runner.busy != Some(true)
    });
    check!(is_well, "{found:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn the_same_id_twice_is_one_instance(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    let before = b.harness.count(&b.prefix).await;
    let id = name.instance_id().clone();
    let again = manager.create_runner(b.harness.request(id.clone())).await?;
    check!(again == id, "another id");
    let after = b.harness.count(&b.prefix).await;
    check!(before == after, "{before:?} became {after:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn the_same_id_from_two_managers_at_once_is_one_instance(b: Bench) -> Verdict {
    let (one, two) = (b.manager().await?, b.manager().await?);
    let id = InstanceId::random();
    let (first, second) = futures::join!(
        one.create_runner(b.harness.request(id.clone())),
        two.create_runner(b.harness.request(id.clone()))
    );
    check!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
    let at_once = b.harness.count(&b.prefix).await;
    one.delete_runner(&id, &token()).await?;
    b.nothing_left().await?;
    b.runner(&one).await?;
    let single = b.harness.count(&b.prefix).await;
    check!(
        at_once == single,
        "{at_once:?} where one runner is {single:?}"
    );
    Ok(Outcome::Verified)
}

pub(super) async fn thirty_two_at_once_are_thirty_two(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let most = manager.capability().max_instances.unwrap_or(32).min(32);
    let requests = (0..most).map(|_| b.harness.request(InstanceId::random()));
    let made = requests.map(|request| manager.create_runner(request));
    let made = futures::future::try_join_all(made).await?;
    let listed = manager.get_runners(None).await?;
    let made: BTreeSet<&InstanceId> = made.iter().collect();
    let natives: BTreeSet<&str> = listed.iter().map(|r| r.native_id.as_str()).collect();
    check!(made.len() == most as usize, "{} ids", made.len());
    check!(natives.len() == made.len(), "{} native ids", natives.len());
    check!(listed.len() == made.len(), "{} are listed", listed.len());
    let flushed = flush(&manager, true).await;
    check!(flushed.errors.is_empty(), "{:?}", flushed.errors);
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_prefix_of_the_greatest_length_works(b: Bench) -> Verdict {
    let longest = (1..=64)
        .rev()
        .map(|length| format!("{}{}", b.prefix, "x".repeat(length)))
        .find_map(|text| NamePrefix::new(text).ok());
    let Some(prefix) = longest else {
        return Err(Failure::new("no longer prefix is taken"));
    };
    let b = b.with_prefix(prefix);
    let manager = b.manager().await?;
    let name = b.runner(&manager).await?;
    manager.delete_runner(name.instance_id(), &token()).await?;
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn another_manager_of_the_prefix_sees_it(b: Bench) -> Verdict {
    let name = b.runner(&b.manager().await?).await?;
    let later = b.manager().await?;
    let found = later.get_runner(name.instance_id()).await?;
    check!(
        found.is_some(),
        "a manager that starts later does not see the runner"
    );
    check!(
        cleanup(&later).await.metrics.is_empty(),
        "its cleanup removed the runner"
    );
    later.delete_runner(name.instance_id(), &token()).await?;
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_refused_launch_leaves_nothing(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    b.harness.fail(&b.prefix, Fault::Launch).await?;
    let id = InstanceId::random();
    let refused = manager.create_runner(b.harness.request(id)).await;
    check!(refused.is_err(), "the launch should have failed");
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_launch_whose_answer_is_lost_leaves_nothing(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    b.harness.fail(&b.prefix, Fault::LaunchAfterEffect).await?;
    let id = InstanceId::random();
    let lost = manager.create_runner(b.harness.request(id)).await;
    check!(lost.is_err(), "the launch should have failed");
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_launch_that_hangs_ends_at_its_deadline(b: Bench) -> Verdict {
    let timings = Timings {
        launch_timeout: Duration::from_millis(300),
        ..Bench::timings()
    };
    let manager = b.manager_with(&timings).await?;
    b.harness.fail(&b.prefix, Fault::LaunchHangs).await?;
    let id = InstanceId::random();
    let hung = manager.create_runner(b.harness.request(id)).await;
    let kind = hung.as_ref().err().map(runner_manager_core::Error::kind);
    check!(kind == Some(ErrorKind::TimedOut), "{hung:?}");
    b.harness.mend(&b.prefix).await;
    b.cleaned(&manager).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn dropped_anywhere_it_leaves_nothing_to_cleanup(b: Bench) -> Verdict {
    let timings = Timings {
        boot_timeout: Duration::ZERO,
        ..Bench::timings()
    };
    let (manager, later) = (b.manager().await?, b.manager_with(&timings).await?);
    for times in 1..=64 {
        let id = InstanceId::random();
        let request = b.harness.request(id.clone());
        let done = poll_times(manager.create_runner(request), times).await;
        let done = done.transpose()?.is_some();
        // What came to life all the same is a runner like any other.
        later.delete_runner(&id, &token()).await?;
        let cleaned = b.cleaned(&later).await;
        cleaned.map_err(|left| Failure::new(format!("dropped after {times} polls, {left}")))?;
        if done {
            return Ok(Outcome::Verified);
        }
    }
    Ok(Outcome::Verified)
}

pub(super) async fn a_credential_that_cannot_be_used_is_refused(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let capability = manager.capability();
    let refused = |support| matches!(support, Support::Unsupported(_));
    let mut request = b.harness.request(InstanceId::random());
    if refused(capability.jit_config) {
        request.credential = RunnerCredential::JitConfig(Secret::new("c2VjcmV0"));
    } else if refused(capability.registration_token) {
        let url = "https://github.com/octo".parse();
        let url = url.map_err(|_| Failure::new("the URL of the case is none"))?;
        let token = Secret::new("A-REGISTRATION-TOKEN");
        request.credential = RunnerCredential::RegistrationToken { url, token };
    } else {
        return Ok(Outcome::Verified);
    }
    let outcome = manager.create_runner(request).await;
    let kind = outcome.as_ref().err().map(runner_manager_core::Error::kind);
    check!(kind == Some(ErrorKind::Unsupported), "{outcome:?}");
    b.nothing_left().await?;
    Ok(Outcome::Refused("a kind of credential"))
}
