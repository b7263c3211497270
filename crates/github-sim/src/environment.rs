//! Where a simulator takes time and randomness from.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use runner_manager_core::{Clock, SystemClock};

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// A simulator's clock and its source of randomness. Durations follow tokio's time, which a test
/// can pause; the clock tells the time of day.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Rng,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            rng: Rng::new(rand::random()),
        }
    }
}

/// A source of randomness that all parts of a simulator share: one seed decides all its choices.
#[derive(Clone)]
pub(crate) struct Rng(Arc<Mutex<StdRng>>);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    fn rng(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A text of letters and digits.
    pub(crate) fn text(&self, length: usize) -> String {
        let mut rng = self.rng();
        (0..length)
            .map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())]))
            .collect()
    }

    /// A GUID.
    pub(crate) fn guid(&self) -> String {
        let n: u128 = self.rng().random();
        let hex = format!("{n:032x}");
        format!(
            "{}-{}-4{}-a{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[13..16],
            &hex[17..20],
            &hex[20..]
        )
    }

    /// Whether something of this likelihood, from 0 to 1, happens.
    pub(crate) fn strikes(&self, likelihood: f64) -> bool {
        likelihood > 0.0 && self.rng().random::<f64>() < likelihood
    }

    /// A number from `least` to `most`.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        self.rng().random_range(least..=most.max(least))
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&self, bound: usize) -> usize {
        self.rng().random_range(0..bound.max(1))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_same_choices() {
        let all = |rng: Rng| (rng.text(9), rng.guid(), rng.between(1, 90), rng.below(7));
        assert_eq!(all(Rng::new(7)), all(Rng::new(7)));
        assert_ne!(all(Rng::new(7)), all(Rng::new(8)));
    }

    #[test]
    fn likelihoods_are_kept() {
        let rng = Rng::new(1);
        let often = (0..1_000).filter(|_| rng.strikes(0.25)).count();
        assert!((200..300).contains(&often), "{often}");
        assert!(!rng.strikes(0.0) && rng.strikes(1.0));
    }
}
