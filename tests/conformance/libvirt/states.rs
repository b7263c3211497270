//! Native states, as the proxy shows them.

use runner_manager_core::CloudRunnerState;

use CloudRunnerState as S;

/// Each native state with its number and its reason's, and what it is shown as.
fn table() -> Vec<(&'static str, u32, u32, CloudRunnerState)> {
    let kept = |reason: u32| S::Unexpected(format!("paused for reason {reason}"));
    vec![
        ("no state", 0, 0, S::Unexpected("no state".into())),
        ("running", 1, 1, S::Active),
        ("blocked", 2, 0, S::Active),
        ("paused by a user", 3, 1, S::Stopped),
        ("paused for a migration", 3, 2, kept(2)),
        ("paused by an I/O error", 3, 5, S::Error),
        ("paused for a snapshot", 3, 9, kept(9)),
        ("paused while starting", 3, 11, S::Created),
        ("in shutdown", 4, 1, S::Stopped),
        ("shut off", 5, 2, S::Stopped),
        ("crashed", 6, 1, S::Error),
        ("pmsuspended", 7, 0, S::Stopped),
        ("a new one", 8, 0, S::Unexpected("unheard of".into())),
    ]
}

pub(crate) fn all() -> Vec<(&'static str, CloudRunnerState)> {
    table()
        .into_iter()
        .map(|(word, _, _, shown)| (word, shown))
        .collect()
}

/// The numbers of a state.
pub(crate) fn native(word: &str) -> (u32, u32) {
    let found = table().into_iter().find(|(known, ..)| *known == word);
    found
        .map(|(_, state, reason, _)| (state, reason))
        .expect("a state of the table")
}
