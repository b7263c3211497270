//! A runner's states, and which may follow which.

use std::fmt;
use std::str::FromStr;

use runner_manager_core::InvalidValue;
use serde::{Deserialize, Serialize};

/// How far a runner's life has come. Stored before the side effect that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerState {
    /// Wanted; nothing exists yet.
    Requested,
    /// Being registered and created.
    Launching,
    /// Its instance exists; GitHub has not shown it online yet.
    Booting,
    /// Waits for a job.
    Idle,
    /// Runs a job.
    Busy,
    /// Its instance has ended: after its job, or because it failed.
    Finished,
    /// Being removed.
    Deleting,
    /// Nothing of it is left.
    Gone,
}

impl RunnerState {
    /// All states, in the order of a life.
    pub const ALL: [Self; 8] = [
        Self::Requested,
        Self::Launching,
        Self::Booting,
        Self::Idle,
        Self::Busy,
        Self::Finished,
        Self::Deleting,
        Self::Gone,
    ];

    /// The state as one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Launching => "launching",
            Self::Booting => "booting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Finished => "finished",
            Self::Deleting => "deleting",
            Self::Gone => "gone",
        }
    }

    /// Whether something of the runner may exist.
    #[must_use]
    pub fn is_live(self) -> bool {
        self != Self::Gone
    }

    /// Whether `to` may follow. A removal goes back to busy in one case: GitHub refused it
    /// because a job had arrived. A manager that was down during a launch may next see the
    /// instance when it has ended.
    #[must_use]
    pub fn may_become(self, to: Self) -> bool {
        use RunnerState as S;
        match self {
            S::Gone => false,
            S::Deleting => matches!(to, S::Gone | S::Busy),
            S::Requested => matches!(
                to,
                S::Launching | S::Booting | S::Finished | S::Deleting | S::Gone
            ),
            S::Launching => matches!(to, S::Booting | S::Finished | S::Deleting),
            S::Booting => matches!(to, S::Idle | S::Busy | S::Finished | S::Deleting),
            S::Idle => matches!(to, S::Busy | S::Finished | S::Deleting),
            S::Busy => matches!(to, S::Finished | S::Deleting),
            S::Finished => to == S::Deleting,
        }
    }
}

impl fmt::Display for RunnerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RunnerState {
    type Err = InvalidValue;
    fn from_str(word: &str) -> Result<Self, InvalidValue> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == word);
        known.ok_or_else(|| InvalidValue::new("runner state", word, "is not a known state"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_nothing_leaves_gone() {
        for state in RunnerState::ALL {
            assert_eq!(state.as_str().parse::<RunnerState>().unwrap(), state);
            assert!(!RunnerState::Gone.may_become(state));
            assert!(!state.may_become(state), "{state} follows itself");
            let removable = state.may_become(RunnerState::Deleting);
            let at_end = matches!(state, RunnerState::Deleting | RunnerState::Gone);
            assert_eq!(removable, !at_end, "{state}");
        }
    }
}
