//! Whether a failed attempt is made again, and when.

use std::time::Duration;

use runner_manager_core::{Effect, Error, Retry};

use crate::call::Safety;

/// The most attempts of one call.
pub(crate) const MAX_ATTEMPTS: u32 = 3;
/// The wait before the second attempt, before jitter; it doubles each time.
const BASE: Duration = Duration::from_millis(400);

/// What is known about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The same call gives the same answer.
    Lasting,
    /// The call certainly never reached GitHub.
    NotSent,
    /// The call may have taken effect; GitHub or the way to it failed.
    Passing,
}

/// A failed attempt.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) fault: Fault,
}

impl Failure {
    pub(crate) fn lasting(error: Error) -> Self {
        Self {
            error,
            fault: Fault::Lasting,
        }
    }

    /// The error as the caller gets it, after the last attempt.
    pub(crate) fn finish(self, safety: Safety, attempts: u32) -> Error {
        match self.fault {
            Fault::Lasting => self.error,
            Fault::NotSent => self.error.with_retry(Retry::Exhausted { attempts }),
            Fault::Passing => {
                let retry = if attempts > 1 {
                    Retry::Exhausted { attempts }
                } else {
                    Retry::After(BASE)
                };
                let effect = match safety {
                    Safety::Harmless => Effect::None,
                    Safety::Repeatable | Safety::Once => Effect::Unknown,
                };
                self.error.with_retry(retry).with_effect(effect)
            }
        }
    }
}

/// The wait before the next attempt, or none when there is no next. `jitter` is in 0..1.
pub(crate) fn next(fault: Fault, safety: Safety, attempt: u32, jitter: f64) -> Option<Duration> {
    let may = match fault {
        Fault::Lasting => false,
        Fault::NotSent => true,
        Fault::Passing => safety != Safety::Once,
    };
    if !may || attempt >= MAX_ATTEMPTS {
        return None;
    }
    let doubled = BASE * 2_u32.saturating_pow(attempt.saturating_sub(1));
    Some(doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_safe_is_sent_again() {
        for (fault, safety, again) in [
            (Fault::Lasting, Safety::Harmless, false),
            (Fault::Passing, Safety::Harmless, true),
            (Fault::Passing, Safety::Repeatable, true),
            (Fault::Passing, Safety::Once, false),
            (Fault::NotSent, Safety::Once, true),
        ] {
            assert_eq!(
                next(fault, safety, 1, 0.5).is_some(),
                again,
                "{fault:?} {safety:?}"
            );
            assert_eq!(next(fault, safety, MAX_ATTEMPTS, 0.5), None);
        }
    }

    #[test]
    fn waits_double_and_spread() {
        let wait = |attempt, jitter| next(Fault::NotSent, Safety::Once, attempt, jitter).unwrap();
        assert_eq!(wait(1, 0.0), BASE / 2);
        assert_eq!(wait(1, 1.0), BASE);
        assert_eq!(wait(2, 1.0), BASE * 2);
    }
}
