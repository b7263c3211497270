//! How many runners wait at which time of the week.

use std::time::Duration;

use cronexpr::{Crontab, MakeTimestamp, parse_crontab};
use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, Result};

/// A time in which another number of runners waits for jobs.
#[derive(Debug, Clone)]
pub struct Schedule {
    begins: Crontab,
    lasts: Duration,
    min_idle: usize,
}

impl Schedule {
    /// From a crontab expression of five fields, read in a time zone of the IANA database such
    /// as `Europe/Vienna`, on; for this long.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for an expression or a zone that cannot be read, and for a
    /// length of nothing or of more than 366 days.
    pub fn new(cron: &str, time_zone: &str, lasts: Duration, min_idle: usize) -> Result<Self> {
        let wrong = |message: String| {
            Error::new(ErrorKind::InvalidConfig, message)
                .with_context("cron", cron)
                .with_context("time_zone", time_zone)
        };
        if lasts.is_zero() || lasts > Duration::from_secs(366 * 24 * 3_600) {
            return Err(wrong("a schedule lasts between a minute and a year".into()));
        }
        let begins = parse_crontab(&format!("{cron} {time_zone}"))
            .map_err(|e| wrong(format!("the schedule cannot be read: {e}")))?;
        Ok(Self {
            begins,
            lasts,
            min_idle,
        })
    }

    /// Whether it began less than its length ago.
    fn is_active(&self, now: Timestamp) -> bool {
        let now = now.as_second();
        let lasts = i64::try_from(self.lasts.as_secs()).unwrap_or(i64::MAX);
        let from = MakeTimestamp::from_second(now.saturating_sub(lasts));
        let next = from.and_then(|from| self.begins.find_next(from));
        next.is_ok_and(|next| next.timestamp().as_second() <= now)
    }
}

/// The highest number of the schedules that are active, or `otherwise` when none is.
pub(crate) fn min_idle(schedules: &[Schedule], now: Timestamp, otherwise: usize) -> usize {
    let active = schedules.iter().filter(|schedule| schedule.is_active(now));
    let highest = active.map(|schedule| schedule.min_idle).max();
    highest.unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(hours: u64) -> Duration {
        Duration::from_secs(hours * 3_600)
    }

    fn at(schedules: &[Schedule], now: &str) -> usize {
        min_idle(schedules, now.parse().expect("a time"), 1)
    }

    #[test]
    fn a_schedule_holds_from_its_beginning_for_its_length_in_its_zone() {
        let work = Schedule::new("0 8 * * 1-5", "Europe/Vienna", hours(10), 5).expect("valid");
        let all = [work];
        // A Wednesday in winter: 08:00 in Vienna is 07:00 UTC.
        for (now, wanted) in [
            ("2026-11-25T06:59:59Z", 1),
            ("2026-11-25T07:00:00Z", 5),
            ("2026-11-25T16:59:59Z", 5),
            ("2026-11-25T17:00:00Z", 1),
            // In summer it is 06:00 UTC.
            ("2026-07-01T06:00:00Z", 5),
            // A Saturday.
            ("2026-11-28T09:00:00Z", 1),
        ] {
            assert_eq!(at(&all, now), wanted, "{now}");
        }
    }

    #[test]
    fn of_several_the_highest_counts_and_it_may_be_lower_than_usual() {
        let night = Schedule::new("0 22 * * *", "UTC", hours(8), 0).expect("valid");
        let busy = Schedule::new("0 23 * * 0", "UTC", hours(2), 9).expect("valid");
        let all = [night, busy];
        assert_eq!(at(&all, "2026-11-25T23:30:00Z"), 0);
        assert_eq!(at(&all, "2026-11-29T23:30:00Z"), 9);
        assert_eq!(at(&all, "2026-11-25T12:00:00Z"), 1);
    }

    #[test]
    fn mistakes_are_refused() {
        for (cron, zone) in [
            ("0 25 * * *", "UTC"),
            ("0 8 * *", "UTC"),
            ("0 8 * * *", "Mars/Base"),
        ] {
            let error = Schedule::new(cron, zone, hours(1), 1).expect_err("wrong");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{cron} {zone}");
        }
        assert!(Schedule::new("0 8 * * *", "UTC", Duration::ZERO, 1).is_err());
    }
}
