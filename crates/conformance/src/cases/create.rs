//! Creating runners.

use std::collections::BTreeSet;
use std::time::Duration;

use runner_manager_core::{
    CloudRunnerState, Connected, CreateRunner, Effect, Error, ErrorKind, HealthState, InstanceId,
    NamePrefix, ProxyConfig, Retry, RunnerCredential, Secret, Support, SupportServiceConfig,
    Timings,
};

use crate::bench::{cleanup, flush, poll_times, token};
use crate::canary::CanarySecret;
use crate::case::check;
use crate::{Bench, Failure, Fault, Outcome, Verdict};

pub(super) async fn appears_by_name_and_id(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let id = InstanceId::random();
    manager.create_runner(b.request(id.clone())).await?;
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
    let again = manager.create_runner(b.request(id.clone())).await?;
    check!(again == id, "another id");
    let after = b.harness.count(&b.prefix).await;
    check!(before == after, "{before:?} became {after:?}");
    Ok(Outcome::Verified)
}

pub(super) async fn the_same_id_from_two_managers_at_once_is_one_instance(b: Bench) -> Verdict {
    let (one, two) = (b.manager().await?, b.manager().await?);
    let id = InstanceId::random();
    let (first, second) = futures::join!(
        one.create_runner(b.request(id.clone())),
        two.create_runner(b.request(id.clone()))
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
    let requests = (0..most).map(|_| b.request(InstanceId::random()));
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
    let refused = manager.create_runner(b.request(id)).await;
    check!(refused.is_err(), "the launch should have failed");
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_launch_that_fails_midway_leaves_nothing(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    b.harness.fail(&b.prefix, Fault::LaunchMidway).await?;
    let id = InstanceId::random();
    let failed = manager.create_runner(b.request(id)).await;
    check!(failed.is_err(), "the launch should have failed");
    b.nothing_left().await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_failed_launch_can_be_repeated_with_its_id(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let id = InstanceId::random();
    b.harness.fail(&b.prefix, Fault::Launch).await?;
    let failed = manager.create_runner(b.request(id.clone())).await;
    check!(failed.is_err(), "the launch should have failed");
    b.harness.mend(&b.prefix).await;
    manager.create_runner(b.request(id.clone())).await?;
    b.listening(&manager, &id).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_full_quota_is_told_and_leaves_nothing(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    b.harness.fail(&b.prefix, Fault::Quota).await?;
    let id = InstanceId::random();
    let full = manager.create_runner(b.request(id.clone())).await;
    let left = b.nothing_left().await;
    b.harness.mend(&b.prefix).await;
    let Err(error) = full else {
        return Err(Failure::new("the launch should have failed"));
    };
    let told = [ErrorKind::QuotaExceeded, ErrorKind::NoCapacity].contains(&error.kind());
    check!(told && error.effect() == Effect::None, "{error:?}");
    left?;
    manager.create_runner(b.request(id.clone())).await?;
    b.listening(&manager, &id).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn a_launch_whose_answer_is_lost_leaves_nothing(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    b.harness.fail(&b.prefix, Fault::LaunchAfterEffect).await?;
    let id = InstanceId::random();
    let lost = manager.create_runner(b.request(id)).await;
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
    let hung = manager.create_runner(b.request(id.clone()));
    let hung = b.ends(timings.launch_timeout, hung).await?;
    let kind = hung.as_ref().err().map(Error::kind);
    check!(kind == Some(ErrorKind::TimedOut), "{hung:?}");
    b.harness.mend(&b.prefix).await;
    // What takes effect after the deadline is a runner like any other, which its owner deletes.
    b.deleted_and_cleaned(&manager, &id).await?;
    Ok(Outcome::Verified)
}

pub(super) async fn dropped_anywhere_it_leaves_nothing_to_cleanup(b: Bench) -> Verdict {
    let timings = Timings {
        boot_timeout: Duration::ZERO,
        ..Bench::timings()
    };
    let (manager, later) = (b.manager().await?, b.manager_with(&timings).await?);
    // The bench's clock stands still, and what is made is newer by the cloud's: to this manager
    // it is old at once.
    b.clock.advance(Timings::default().boot_timeout);
    for times in 1..=64 {
        let id = InstanceId::random();
        let request = b.request(id.clone());
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

/// One credential of each kind, and whether the backend takes it.
fn credentials(manager: &Connected) -> Result<Vec<(Support, RunnerCredential)>, Failure> {
    let capability = manager.capability();
    let url = |text: &str| text.parse();
    let no_url = |_| Failure::new("the URL of the case is none");
    let token = RunnerCredential::RegistrationToken {
        url: url("https://github.com/octo").map_err(no_url)?,
        token: CanarySecret::new().token(),
    };
    let claim = RunnerCredential::Claim {
        url: url("https://manager.invalid/claim").map_err(no_url)?,
        nonce: Secret::new("nonce"),
    };
    let jit = RunnerCredential::JitConfig(CanarySecret::new().jit());
    Ok(vec![
        (capability.jit_config, jit),
        (capability.registration_token, token),
        (capability.claim, claim),
    ])
}

pub(super) async fn each_credential_is_used_or_refused(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let mut outcome = Outcome::Verified;
    for (support, credential) in credentials(&manager)? {
        let id = InstanceId::random();
        let is_claim = matches!(credential, RunnerCredential::Claim { .. });
        let request = CreateRunner {
            credential,
            ..b.request(id.clone())
        };
        if let Support::Unsupported(why) = support {
            let refused = manager.create_runner(request).await;
            let error = refused.as_ref().err();
            let kind = error.map(Error::kind);
            check!(kind == Some(ErrorKind::Unsupported), "{refused:?}");
            let retry = error.map(Error::retry);
            check!(retry == Some(Retry::Never), "{refused:?}");
            b.nothing_left().await?;
            outcome = Outcome::Refused(why);
        } else if !is_claim {
            manager.create_runner(request).await?;
            b.listening(&manager, &id).await?;
            manager.delete_runner(&id, &token()).await?;
            b.cleaned(&manager).await?;
        }
    }
    Ok(outcome)
}

pub(super) async fn services_that_cannot_be_had_are_refused(b: Bench) -> Verdict {
    let manager = b.manager().await?;
    let id = InstanceId::random();
    let mut request = b.request(id.clone());
    let http = "http://proxy.example:3128/".parse();
    request.support = SupportServiceConfig {
        proxy_config: Some(ProxyConfig {
            http: Some(http.map_err(|_| Failure::new("the URL of the case is none"))?),
            https: None,
            no_proxy: vec!["localhost".into()],
            transparent: false,
        }),
        ..SupportServiceConfig::default()
    };
    let outcome = manager.create_runner(request).await;
    let Support::Unsupported(why) = manager.capability().support_services else {
        outcome?;
        b.listening(&manager, &id).await?;
        return Ok(Outcome::Verified);
    };
    let error = outcome.as_ref().err();
    let kind = error.map(Error::kind);
    check!(kind == Some(ErrorKind::Unsupported), "{outcome:?}");
    let retry = error.map(Error::retry);
    check!(retry == Some(Retry::Never), "{outcome:?}");
    b.nothing_left().await?;
    Ok(Outcome::Refused(why))
}
