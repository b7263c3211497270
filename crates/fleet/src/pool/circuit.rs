//! What keeps a pool from launching: failures by class, each with a pause that grows.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use runner_manager_core::ErrorKind;
use serde::Serialize;
use tokio::time::Instant;

/// How many runners in a row may fail to come online, or to be given a job, before that holds
/// launches back.
const THRESHOLD: u32 = 3;

/// What fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Launches, with this kind of error.
    Launch(ErrorKind),
    /// Runners that were launched do not come online.
    Boot,
    /// Runners that are online are given no job, while jobs wait that they match.
    NoJobs,
}

impl Class {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Launch(kind) => kind.as_str(),
            Self::Boot => BOOT,
            Self::NoJobs => NO_JOBS,
        }
    }
}

const BOOT: &str = "boot";
/// The class of runners that are given no job, in circuits and failures.
pub const NO_JOBS: &str = "no_jobs";
/// The classes that a launch alone says nothing about: what follows it has to come right.
const AFTER_LAUNCH: [&str; 2] = [BOOT, NO_JOBS];

/// Whose failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    GitHub,
    Backend,
    /// This machine, or a service beside the two.
    Other,
}

/// Something that failed.
#[derive(Debug, Clone)]
pub(crate) struct Setback {
    pub(crate) class: Class,
    pub(crate) side: Side,
    /// When the attempt began.
    pub(crate) began: Instant,
    pub(crate) reason: String,
}

/// The failures of one class since the last success.
#[derive(Debug, Clone)]
struct Trouble {
    class: Class,
    side: Side,
    failures: u32,
    /// When the last of them came that was counted.
    counted: Instant,
    until: Instant,
    /// `until` for people.
    until_at: Timestamp,
    reason: String,
    console: Option<String>,
}

impl Trouble {
    fn counts(&self, class: &str) -> bool {
        !AFTER_LAUNCH.contains(&class) || self.failures >= THRESHOLD
    }
}

/// How a pool's launches stand, class by class, for operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircuitView {
    /// The class of the failures: the kind of a launch's error, `boot`, or `no_jobs`.
    pub class: &'static str,
    /// `closed`: launches go on; `open`: none before `until`; `half_open`: one, as a probe.
    pub state: &'static str,
    /// How many there were since the last success.
    pub failures: u32,
    /// The first moment at which a launch may be tried.
    pub until: Timestamp,
    /// The last failure.
    pub reason: String,
    /// The end of the console's text of the last failure, where there is one.
    pub console: Option<String>,
}

/// The circuit breaker of one pool.
#[derive(Debug, Default)]
pub(crate) struct Circuit(BTreeMap<&'static str, Trouble>);

impl Circuit {
    /// A failure, after which nothing is launched for as long as `pause` says for the number of
    /// failures in a row.
    ///
    /// Attempts that go on at the same time fail for one reason and count once: an attempt that began
    /// before the last failure was counted is of the same wave.
    pub(crate) fn fail(
        &mut self,
        setback: Setback,
        pause: impl FnOnce(u32) -> Duration,
        now: Timestamp,
    ) {
        let current = Instant::now();
        let before = self.0.remove(setback.class.as_str());
        let wave = before.as_ref().filter(|t| setback.began < t.counted);
        let counted = wave.map_or(current, |trouble| trouble.counted);
        let known = before.as_ref().map_or(0, |trouble| trouble.failures);
        let failures = known + u32::from(wave.is_none());
        let until = counted + pause(failures);
        let until = wave.map_or(until, |trouble| until.max(trouble.until));
        let left = until.saturating_duration_since(current);
        let span = jiff::SignedDuration::try_from(left).unwrap_or(jiff::SignedDuration::MAX);
        let trouble = Trouble {
            class: setback.class,
            side: setback.side,
            failures,
            counted,
            until,
            until_at: now.checked_add(span).unwrap_or(Timestamp::MAX),
            reason: setback.reason,
            console: before.and_then(|trouble| trouble.console),
        };
        self.0.insert(setback.class.as_str(), trouble);
    }

    /// A call of this side that began at this time has succeeded: where it could not be reached
    /// before, one launch is tried at once.
    pub(crate) fn reached(&mut self, side: Side, began: Instant, now: Timestamp) {
        let current = Instant::now();
        let away = [ErrorKind::Unreachable, ErrorKind::TimedOut].map(Class::Launch);
        let ended = self.0.values_mut().filter(|trouble| {
            trouble.side == side
                && away.contains(&trouble.class)
                && trouble.counted < began
                && trouble.until > current
        });
        for trouble in ended {
            trouble.until = current;
            trouble.until_at = now;
        }
    }

    /// What a failed runner's console said.
    pub(crate) fn show_console(&mut self, class: Class, text: String) {
        if let Some(trouble) = self.0.get_mut(class.as_str()) {
            trouble.console = Some(text);
        }
    }

    /// A launch succeeded.
    pub(crate) fn launched(&mut self) {
        self.0.retain(|class, _| AFTER_LAUNCH.contains(class));
    }

    /// A runner came online.
    pub(crate) fn online(&mut self) {
        self.0.remove(BOOT);
    }

    /// A runner was given a job.
    pub(crate) fn took_job(&mut self) {
        self.0.remove(NO_JOBS);
    }

    /// What made launches fail may be mended.
    pub(crate) fn reset(&mut self) {
        self.0.clear();
    }

    /// Whether launches are held back.
    pub(crate) fn is_troubled(&self) -> bool {
        self.0.iter().any(|(class, trouble)| trouble.counts(class))
    }

    /// How many launches may begin: none while a pause lasts, then one at a time until one
    /// succeeds; after failed boots, until that one is online.
    pub(crate) fn budget(&self, usual: usize, launching: usize, booting: usize) -> usize {
        let now = Instant::now();
        let mut budget = usual.saturating_sub(launching);
        for (class, trouble) in self.0.iter().filter(|(class, t)| t.counts(class)) {
            let under_way = if AFTER_LAUNCH.contains(class) {
                launching + booting
            } else {
                launching
            };
            let probe = if now < trouble.until {
                0
            } else {
                1_usize.saturating_sub(under_way)
            };
            budget = budget.min(probe);
        }
        budget
    }

    /// When the next pause ends, if one lasts.
    pub(crate) fn wakes(&self) -> Option<Instant> {
        let now = Instant::now();
        let pauses = self.0.values().map(|trouble| trouble.until);
        pauses.filter(|until| *until > now).min()
    }

    pub(crate) fn view(&self) -> Vec<CircuitView> {
        let now = Instant::now();
        let show = |(class, trouble): (&&'static str, &Trouble)| CircuitView {
            class,
            state: match trouble.counts(class) {
                false => "closed",
                true if now < trouble.until => "open",
                true => "half_open",
            },
            failures: trouble.failures,
            until: trouble.until_at,
            reason: trouble.reason.clone(),
            console: trouble.console.clone(),
        };
        self.0.iter().map(show).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn fail(circuit: &mut Circuit, class: Class) {
        let setback = Setback {
            class,
            side: Side::GitHub,
            began: Instant::now(),
            reason: "no".into(),
        };
        circuit.fail(setback, |_| PAUSE, Timestamp::UNIX_EPOCH);
    }

    #[tokio::test(start_paused = true)]
    async fn launches_that_fail_at_the_same_time_count_once() {
        let mut circuit = Circuit::default();
        let setback = Setback {
            class: Class::Launch(ErrorKind::Unreachable),
            side: Side::GitHub,
            began: Instant::now(),
            reason: "the connection broke off".into(),
        };
        let doubled = |failures| Duration::from_secs(2_u64.pow(failures));
        let mut fail = |setback: &Setback| {
            circuit.fail(setback.clone(), doubled, Timestamp::UNIX_EPOCH);
            circuit.view()[0].failures
        };
        for _ in 0..30 {
            tokio::time::advance(Duration::from_millis(10)).await;
            assert_eq!(fail(&setback), 1);
        }
        let next = Setback {
            began: Instant::now(),
            ..setback
        };
        assert_eq!(fail(&next), 2, "it began after the others had failed");
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(circuit.budget(8, 0, 0), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn once_a_side_is_reached_again_a_launch_is_tried_at_once() {
        let mut circuit = Circuit::default();
        let before = Instant::now();
        fail(&mut circuit, Class::Launch(ErrorKind::Unreachable));
        tokio::time::advance(Duration::from_secs(1)).await;
        let reach = |circuit: &mut Circuit, side, began| {
            circuit.reached(side, began, Timestamp::UNIX_EPOCH);
            circuit.budget(8, 0, 0)
        };
        assert_eq!(reach(&mut circuit, Side::GitHub, before), 0, "older");
        let now = Instant::now();
        assert_eq!(reach(&mut circuit, Side::Backend, now), 0, "another side");
        assert_eq!(reach(&mut circuit, Side::GitHub, now), 1);
        assert_eq!(circuit.view()[0].state, "half_open");
        // A limit is not over because something else succeeds.
        fail(&mut circuit, Class::Launch(ErrorKind::RateLimited));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(reach(&mut circuit, Side::GitHub, Instant::now()), 0);
    }

    #[tokio::test]
    async fn a_failed_launch_pauses_all_and_then_one_probes() {
        tokio::time::pause();
        let mut circuit = Circuit::default();
        assert_eq!(circuit.budget(8, 2, 5), 6);
        fail(&mut circuit, Class::Launch(ErrorKind::NoCapacity));
        assert_eq!(circuit.budget(8, 0, 0), 0);
        assert_eq!(circuit.view()[0].state, "open");
        tokio::time::advance(PAUSE).await;
        assert_eq!((circuit.budget(8, 0, 5), circuit.budget(8, 1, 0)), (1, 0));
        assert_eq!(circuit.view()[0].state, "half_open");
        circuit.launched();
        assert!(!circuit.is_troubled());
    }

    #[tokio::test]
    async fn only_boots_that_fail_in_a_row_hold_launches_back_until_one_is_online() {
        tokio::time::pause();
        let mut circuit = Circuit::default();
        fail(&mut circuit, Class::Boot);
        fail(&mut circuit, Class::Boot);
        assert_eq!(circuit.budget(8, 0, 3), 8);
        fail(&mut circuit, Class::Boot);
        circuit.launched();
        assert_eq!(circuit.budget(8, 0, 0), 0);
        tokio::time::advance(PAUSE).await;
        assert_eq!((circuit.budget(8, 0, 0), circuit.budget(8, 0, 1)), (1, 0));
        circuit.online();
        assert_eq!(circuit.budget(8, 0, 1), 8);
    }

    #[tokio::test]
    async fn runners_that_are_given_no_job_hold_launches_back_until_one_is() {
        tokio::time::pause();
        let mut circuit = Circuit::default();
        fail(&mut circuit, Class::NoJobs);
        fail(&mut circuit, Class::NoJobs);
        assert_eq!(circuit.budget(8, 0, 3), 8);
        fail(&mut circuit, Class::NoJobs);
        circuit.launched();
        circuit.online();
        assert_eq!(circuit.budget(8, 0, 0), 0);
        tokio::time::advance(PAUSE).await;
        assert_eq!((circuit.budget(8, 0, 0), circuit.budget(8, 0, 1)), (1, 0));
        circuit.took_job();
        assert_eq!(circuit.budget(8, 0, 1), 8);
    }

    #[tokio::test]
    async fn classes_stand_side_by_side() {
        let mut circuit = Circuit::default();
        fail(&mut circuit, Class::Launch(ErrorKind::NoCapacity));
        fail(&mut circuit, Class::Launch(ErrorKind::RateLimited));
        fail(&mut circuit, Class::Launch(ErrorKind::RateLimited));
        let view = circuit.view();
        let failures: Vec<_> = view.iter().map(|v| (v.class, v.failures)).collect();
        assert_eq!(failures, [("no_capacity", 1), ("rate_limited", 2)]);
    }
}
