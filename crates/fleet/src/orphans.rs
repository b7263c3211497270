//! Registrations and instances that no runner of the store stands behind.

use std::collections::HashMap;
use std::time::Duration;

use runner_manager_core::{NamePrefix, RunnerName};
use tokio::time::Instant;

use crate::scope::ScopeView;

/// Remembers since when registrations have had no runner.
#[derive(Default)]
pub(crate) struct OrphanRegistrations {
    /// When a registration, by GitHub's id, was first seen offline and without a runner, and in
    /// which look.
    seen: HashMap<u64, (Instant, u64)>,
}

impl OrphanRegistrations {
    /// The registrations to remove: of exactly this prefix's pattern, offline and not busy in
    /// at least two looks, for at least the grace period, and unknown to `is_known`.
    ///
    /// One missing in a list is forgotten and starts anew: no single list decides.
    pub(crate) fn due(
        &mut self,
        view: &ScopeView,
        prefix: &NamePrefix,
        grace: Duration,
        is_known: impl Fn(&RunnerName) -> bool,
    ) -> Vec<(u64, RunnerName)> {
        let now = Instant::now();
        let mut still = HashMap::new();
        let mut due = Vec::new();
        for runner in view.runners.values() {
            let Some(name) = prefix.owned(&runner.name) else {
                continue;
            };
            if runner.online || runner.busy || is_known(&name) {
                continue;
            }
            let first = self
                .seen
                .get(&runner.id)
                .copied()
                .unwrap_or((now, view.number));
            still.insert(runner.id, first);
            if view.number > first.1 && now.duration_since(first.0) >= grace {
                due.push((runner.id, name));
            }
        }
        self.seen = still;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_manager_github::RemoteRunner;

    fn view(number: u64, runners: &[(u64, &str, bool, bool)]) -> ScopeView {
        let runner = |&(id, name, online, busy): &(u64, &str, bool, bool)| {
            let runner = RemoteRunner {
                id,
                name: name.into(),
                online,
                busy,
                labels: Vec::new(),
                ephemeral: Some(true),
            };
            (name.to_owned(), runner)
        };
        ScopeView {
            number,
            runners: runners.iter().map(runner).collect(),
            ..ScopeView::default()
        }
    }

    #[test]
    fn only_what_is_ours_offline_idle_unknown_and_seen_twice_is_due() {
        let app1 = NamePrefix::new("app-1").unwrap();
        let runners = [
            (1, "app-1-00000000000a", false, false),
            (2, "app-1-00000000000b", true, false),
            (3, "app-1-00000000000c", false, true),
            (4, "app-10-00000000000d", false, false),
            (5, "app-1-00000000000e", false, false),
            (6, "app-1-x", false, false),
        ];
        let known = |name: &RunnerName| name.to_string() == "app-1-00000000000e";
        let mut orphans = OrphanRegistrations::default();
        let mut due = |number, grace| -> Vec<u64> {
            let found = orphans.due(&view(number, &runners), &app1, grace, known);
            found.into_iter().map(|(id, _)| id).collect()
        };
        assert_eq!(due(1, Duration::ZERO), [] as [u64; 0]);
        assert_eq!(
            due(1, Duration::ZERO),
            [] as [u64; 0],
            "the same look twice"
        );
        assert_eq!(due(2, Duration::from_secs(3600)), [] as [u64; 0]);
        assert_eq!(due(3, Duration::ZERO), [1]);
    }

    #[test]
    fn one_that_was_missing_starts_anew() {
        let app = NamePrefix::new("app").unwrap();
        let mut orphans = OrphanRegistrations::default();
        let runners = [(1, "app-00000000000a", false, false)];
        orphans.due(&view(1, &runners), &app, Duration::ZERO, |_| false);
        orphans.due(&view(2, &[]), &app, Duration::ZERO, |_| false);
        let due = orphans.due(&view(3, &runners), &app, Duration::ZERO, |_| false);
        assert!(due.is_empty());
    }
}
