//! The health rules: a pure function over what was seen.

use std::time::Duration;

use super::HostedRunners;
use crate::{
    Cloud, CloudInitStatus, CloudInstance, CloudRunnerState, Error, ErrorKind, GuestProbe,
    HealthState, Support, Timings,
};

/// A verdict, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The verdict.
    pub health: HealthState,
    /// Why, in words for an operator.
    pub reason: String,
}

fn verdict(health: HealthState, reason: impl Into<String>) -> Assessment {
    Assessment {
        health,
        reason: reason.into(),
    }
}

/// Judges an instance by its state, its age and what a look into it found. `probe` is `None`
/// when no look was needed or possible.
#[must_use]
pub fn assess(
    state: &CloudRunnerState,
    age: Duration,
    probe: Option<Result<GuestProbe, &Error>>,
    timings: &Timings,
) -> Assessment {
    use HealthState::{Healthy, Unhealthy, Unknown};
    let late = age > timings.boot_timeout;
    match state {
        CloudRunnerState::Deleted
        | CloudRunnerState::Error
        | CloudRunnerState::Stopped
        | CloudRunnerState::Unknown => verdict(Unhealthy, format!("the instance is {state}")),
        CloudRunnerState::Unexpected(_) => verdict(Unknown, format!("the state is {state}")),
        CloudRunnerState::Created if late => verdict(
            Unhealthy,
            "the instance is not active after the boot time-out",
        ),
        CloudRunnerState::Created => verdict(Healthy, "the instance is being made"),
        CloudRunnerState::Active => match probe {
            None => verdict(Healthy, "the instance is active, and has no guest to ask"),
            Some(Ok(probe)) => assess_guest(probe, late),
            Some(Err(error)) if error.kind() == ErrorKind::TimedOut => verdict(
                Unknown,
                format!("the guest gave no answer in time: {error}"),
            ),
            Some(Err(error)) if error.kind() == ErrorKind::Unreachable && !late => {
                // A machine that boots has no open port yet.
                verdict(Healthy, "the guest cannot be reached yet")
            }
            Some(Err(error)) if error.kind() == ErrorKind::Unreachable => {
                verdict(Unhealthy, format!("the guest cannot be reached: {error}"))
            }
            Some(Err(error)) => verdict(Unknown, format!("the guest could not be asked: {error}")),
        },
    }
}

fn assess_guest(probe: GuestProbe, late: bool) -> Assessment {
    use HealthState::{Healthy, Unhealthy};
    if probe.worker {
        return verdict(Healthy, "a job runs");
    }
    if matches!(
        probe.cloud_init,
        Some(CloudInitStatus::Error | CloudInitStatus::Disabled)
    ) {
        return verdict(Unhealthy, "cloud-init failed");
    }
    if !probe.installed {
        return if late {
            verdict(
                Unhealthy,
                "the runner is not installed after the boot time-out",
            )
        } else {
            verdict(Healthy, "the runner is being installed")
        };
    }
    if matches!(
        probe.cloud_init,
        Some(CloudInitStatus::Done | CloudInitStatus::Degraded)
    ) {
        return verdict(Unhealthy, "cloud-init is done, and with it the runner");
    }
    if probe.listener {
        verdict(Healthy, "the runner listens for a job")
    } else {
        verdict(Unhealthy, "no runner process is left")
    }
}

impl<C: Cloud> HostedRunners<C> {
    /// Looks at an instance, into it where that helps, and judges.
    pub(super) async fn look(&self, instance: &CloudInstance) -> (Assessment, Option<GuestProbe>) {
        let age = self.clock.age(instance.created_at);
        let has_guest = !matches!(self.cloud.capability().guest, Support::Unsupported(_));
        let probe = if instance.state == CloudRunnerState::Active && has_guest {
            let ask = async { self.cloud.guest(instance).await?.probe().await };
            Some(self.within(self.timings.guest_timeout, "probe", ask).await)
        } else {
            None
        };
        let seen = probe
            .as_ref()
            .map(|probe| probe.as_ref().map(|probe| *probe));
        let assessment = assess(&instance.state, age, seen, &self.timings);
        (assessment, probe.and_then(Result::ok))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_secs(1);
    const OLD: Duration = Duration::from_secs(3601);
    const LISTENING: GuestProbe = GuestProbe {
        installed: true,
        cloud_init: None,
        listener: true,
        worker: false,
    };

    fn guest(age: Duration, probe: GuestProbe) -> HealthState {
        assess(
            &CloudRunnerState::Active,
            age,
            Some(Ok(probe)),
            &Timings::default(),
        )
        .health
    }

    #[test]
    fn states_are_judged_as_the_rules_say() {
        use CloudRunnerState as S;
        for (state, age, health) in [
            (S::Created, FRESH, HealthState::Healthy),
            (S::Created, OLD, HealthState::Unhealthy),
            (S::Deleted, FRESH, HealthState::Unhealthy),
            (S::Error, FRESH, HealthState::Unhealthy),
            (S::Stopped, FRESH, HealthState::Unhealthy),
            (S::Unknown, FRESH, HealthState::Unhealthy),
            (S::Unexpected("MIGRATING".into()), OLD, HealthState::Unknown),
        ] {
            let got = assess(&state, age, None, &Timings::default());
            assert_eq!(got.health, health, "{state} at {age:?}: {}", got.reason);
        }
    }

    #[test]
    fn guests_are_judged_as_the_rules_say() {
        let idle = GuestProbe {
            listener: false,
            ..LISTENING
        };
        let bare = GuestProbe {
            installed: false,
            ..idle
        };
        assert_eq!(guest(OLD, LISTENING), HealthState::Healthy);
        assert_eq!(
            guest(
                OLD,
                GuestProbe {
                    worker: true,
                    ..idle
                }
            ),
            HealthState::Healthy
        );
        assert_eq!(guest(FRESH, idle), HealthState::Unhealthy);
        assert_eq!(guest(FRESH, bare), HealthState::Healthy);
        assert_eq!(guest(OLD, bare), HealthState::Unhealthy);
        for (status, health) in [
            (CloudInitStatus::NotStarted, HealthState::Healthy),
            (CloudInitStatus::Running, HealthState::Healthy),
            (CloudInitStatus::Done, HealthState::Unhealthy),
            (CloudInitStatus::Degraded, HealthState::Unhealthy),
            (CloudInitStatus::Error, HealthState::Unhealthy),
            (CloudInitStatus::Disabled, HealthState::Unhealthy),
        ] {
            let probe = GuestProbe {
                cloud_init: Some(status),
                ..LISTENING
            };
            assert_eq!(guest(FRESH, probe), health, "{status}");
        }
    }

    #[test]
    fn a_time_out_is_unknown_and_unreachable_is_unhealthy_once_booted() {
        let judge = |kind, age| {
            let error = Error::new(kind, "no");
            assess(
                &CloudRunnerState::Active,
                age,
                Some(Err(&error)),
                &Timings::default(),
            )
            .health
        };
        assert_eq!(judge(ErrorKind::TimedOut, OLD), HealthState::Unknown);
        assert_eq!(judge(ErrorKind::Unreachable, OLD), HealthState::Unhealthy);
        assert_eq!(judge(ErrorKind::Unreachable, FRESH), HealthState::Healthy);
        assert_eq!(
            judge(ErrorKind::PermissionDenied, OLD),
            HealthState::Unknown
        );
    }
}
