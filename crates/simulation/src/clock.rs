//! Wall-clock time that follows the runtime's paused time.

use jiff::{SignedDuration, Timestamp};
use runner_manager_core::Clock;
use tokio::time::Instant;

/// When every simulation begins: the first second of 2026.
const BEGIN: i64 = 1_767_225_600;

#[derive(Debug, Clone, Copy)]
pub(crate) struct VirtualClock(pub(crate) Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.0.elapsed()).unwrap_or(SignedDuration::ZERO);
        let begin = Timestamp::from_second(BEGIN).unwrap_or(Timestamp::UNIX_EPOCH);
        begin.checked_add(since).unwrap_or(Timestamp::MAX)
    }
}
