//! The fleet's randomness: the names of runners, and the spread of pauses.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use runner_manager_core::InstanceId;

/// One source of randomness for the whole fleet, so that a seed decides everything.
pub(crate) struct Chance(Mutex<StdRng>);

impl Chance {
    /// From a seed; without one, from the system.
    pub(crate) fn new(seed: Option<u64>) -> Self {
        Self(Mutex::new(match seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_rng(&mut rand::rng()),
        }))
    }

    pub(crate) fn instance_id(&self) -> InstanceId {
        InstanceId::from_rng(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// About as long, so that what failed together does not come back together.
    pub(crate) fn spread(&self, pause: Duration) -> Duration {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pause.mul_f64(rng.random_range(0.75..1.25))
    }
}
