//! A runner as its pool remembers it.

use jiff::Timestamp;
use runner_manager_store::RunnerState;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Removed;
use crate::Phase;
use crate::decide::Order;

/// Whether an operation may begin on a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Free,
    /// One is under way.
    Operation,
    /// The next attempt is not before this.
    Until(Instant),
}

/// A runner as its pool remembers it; the store holds the same.
pub(super) struct Runner {
    pub(super) state: RunnerState,
    pub(super) since: Instant,
    pub(super) created_at: Timestamp,
    pub(super) github_id: Option<u64>,
    /// What it was made from.
    pub(super) revision: String,
    pub(super) hold: Hold,
    pub(super) failures: u32,
    /// The backend was asked for it, and does not have it.
    pub(super) gone: bool,
    /// Since when the looks at GitHub have not shown it online, and whether they show it.
    pub(super) missing: Option<(Instant, bool)>,
    /// Since when it has been idle beside a job that it matches and is not given.
    pub(super) suspected: Option<Instant>,
    pub(super) ordered: Option<Order>,
    pub(super) waiting: Vec<oneshot::Sender<Removed>>,
    /// How far its instance says that it is.
    pub(super) heard: Option<Phase>,
    /// When the phase of its boot began, if that is known.
    pub(super) phase_since: Option<Instant>,
}

impl Runner {
    pub(super) fn new(state: RunnerState, created_at: Timestamp, revision: String) -> Self {
        Self {
            state,
            since: Instant::now(),
            created_at,
            github_id: None,
            revision,
            hold: Hold::Free,
            failures: 0,
            gone: false,
            missing: None,
            suspected: None,
            ordered: None,
            waiting: Vec::new(),
            heard: None,
            phase_since: None,
        }
    }

    pub(super) fn is_held(&self) -> bool {
        match self.hold {
            Hold::Free => false,
            Hold::Operation => true,
            Hold::Until(then) => Instant::now() < then,
        }
    }

    pub(super) fn enter(&mut self, state: RunnerState) {
        self.state = state;
        self.since = Instant::now();
        self.hold = Hold::Free;
        self.gone = false;
        self.suspected = None;
    }

    /// Its instance says how far it is.
    pub(super) fn hear(&mut self, phase: Phase) {
        if phase == Phase::Booted || self.heard.is_none() {
            self.phase_since = Some(Instant::now());
        }
        self.heard = Some(phase);
    }
}
