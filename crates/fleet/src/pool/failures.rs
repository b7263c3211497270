//! What failures hold back, and for how long.

use std::time::Duration;

use runner_manager_core::{Error, RunnerName};
use runner_manager_store::RunnerState;
use tokio::time::Instant;

use super::circuit::{Setback, Side};
use super::{Class, Pool, facts};
use crate::decide::{Registered, Why};
use crate::operation::Shared;

/// The pause after the third boot in a row that failed; it doubles with each further one.
const BOOT_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_BOOT_PAUSE: Duration = Duration::from_secs(300);

impl Pool {
    /// Whether a runner goes that never came online. One that is not registered any more had a
    /// job that was short.
    pub(super) fn is_failed_boot(&self, name: &RunnerName, why: Why) -> bool {
        let Some(runner) = self.runners.get(name) else {
            return false;
        };
        let view = self.view.get();
        let offline = matches!(
            facts::registered(&view, name, runner),
            Registered::Offline(_)
        );
        let late = matches!(why, Why::Late | Why::Overdue(_));
        runner.state == RunnerState::Booting && (late || (why == Why::Ended && offline))
    }

    /// Whether the newest look at GitHub does not show a runner any more.
    pub(super) fn has_left(&self, name: &RunnerName) -> bool {
        let view = self.view.get();
        let runner = self.runners.get(name);
        runner.is_some_and(|runner| {
            matches!(
                facts::registered(&view, name, runner),
                Registered::Absent(_)
            )
        })
    }

    /// A launch failed that began at this time.
    pub(super) fn launch_failed(&mut self, error: &Error, side: Side, began: Instant) {
        let setback = Setback {
            class: Class::Launch(error.kind()),
            side,
            began,
            reason: error.to_string(),
        };
        let shared = &self.context.shared;
        let pause = |failures| retry_pause(shared, error, failures);
        self.circuit.fail(setback, pause, shared.clock.now());
    }

    /// A runner did not come online, or is given no job: the pauses are longer, since each try
    /// takes longer.
    pub(super) fn after_launch_failed(&mut self, class: Class, why: Why) {
        let shared = &self.context.shared;
        let pause = |failures: u32| {
            let doubled = BOOT_PAUSE.saturating_mul(2_u32.saturating_pow(failures.min(16)) / 8);
            shared.chance.spread(doubled.min(LONGEST_BOOT_PAUSE))
        };
        let setback = Setback {
            class,
            side: Side::Other,
            // Each has its own cause.
            began: Instant::now(),
            reason: why.as_str().to_owned(),
        };
        self.circuit.fail(setback, pause, shared.clock.now());
    }
}

/// A pause that grows with every failure, with some chance in it, so that pools that failed
/// together do not come back together.
pub(super) fn retry_pause(shared: &Shared, error: &Error, failures: u32) -> Duration {
    let pause = crate::scope::pause_after(error, failures, Duration::from_millis(500));
    shared.chance.spread(pause)
}
