//! What a pool shows of itself.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::CircuitView;

/// A pool at one moment, for operators and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PoolSnapshot {
    /// Its name.
    pub pool: String,
    /// The scheme of its backend.
    pub backend: String,
    /// The scope of its runners.
    pub github_path: String,
    /// What tells how many runners it holds: `queue`, `scale set` or `planner`.
    pub source: &'static str,
    /// The configured number of waiting runners.
    pub min_idle: usize,
    /// The configured limit.
    pub max: usize,
    /// What holds launches back, or may soon: failures by class since the last success.
    pub circuits: Vec<CircuitView>,
    /// Runners by state.
    pub runners: BTreeMap<&'static str, usize>,
    /// Queued jobs that are for this pool.
    pub queued_jobs: usize,
    /// Launches that succeeded since the start.
    pub launched: u64,
    /// Launches that failed since the start.
    pub failed: u64,
    /// Why the last launch or removal failed, until one succeeds.
    pub last_error: Option<String>,
    /// Why GitHub could not be asked the last time.
    pub github_error: Option<String>,
    /// Why its own source of demand could not be asked the last time.
    pub source_error: Option<String>,
    /// Why the backend could not be asked the last time.
    pub backend_error: Option<String>,
}
