//! For how long jobs have been seen to wait.

use std::collections::HashMap;
use std::time::Duration;

use runner_manager_github::RemoteJob;
use tokio::time::Instant;

use crate::scope::ScopeView;

/// The looks at GitHub that showed each waiting job first.
///
/// Both ends are times of this machine's own clock, and a job counts only for as long as GitHub was
/// looked at.
#[derive(Debug, Default)]
pub(super) struct Waits {
    seen: HashMap<u64, Instant>,
    looked: Option<Instant>,
}

impl Waits {
    /// Notes what waits, once for each look.
    pub(super) fn see(&mut self, view: &ScopeView) {
        let Some(began) = view.began.filter(|began| self.looked != Some(*began)) else {
            return;
        };
        self.looked = Some(began);
        let since = |job: &RemoteJob| (job.id, *self.seen.get(&job.id).unwrap_or(&began));
        self.seen = view.queued.iter().map(since).collect();
    }

    /// Whether a job has waited for longer than this at the newest look.
    pub(super) fn is_longer(&self, job: &RemoteJob, bound: Duration) -> bool {
        let since = self.seen.get(&job.id);
        self.looked
            .zip(since)
            .is_some_and(|(looked, since)| looked.saturating_duration_since(*since) > bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn view(began: Instant, ids: &[u64]) -> ScopeView {
        let job = |id: &u64| RemoteJob {
            id: *id,
            run_id: *id,
            name: "build".into(),
            owner: "o".into(),
            repo: "r".into(),
            labels: Vec::new(),
            status: "queued".into(),
            conclusion: None,
            runner_name: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            started_at: None,
            completed_at: None,
        };
        ScopeView {
            began: Some(began),
            queued: ids.iter().map(job).collect(),
            ..ScopeView::default()
        }
    }

    #[test]
    fn a_job_waits_from_the_first_look_that_shows_it_to_the_newest() {
        let start = Instant::now();
        let mut waits = Waits::default();
        waits.see(&view(start, &[1]));
        waits.see(&view(start + 3 * MINUTE, &[1, 2]));
        let last = view(start + 4 * MINUTE, &[1, 2]);
        waits.see(&last);
        let [first, second] = [&last.queued[0], &last.queued[1]];
        assert!(waits.is_longer(first, 3 * MINUTE) && !waits.is_longer(first, 4 * MINUTE));
        assert!(!waits.is_longer(second, MINUTE));
        // One that was away in between has not waited.
        waits.see(&view(start + 5 * MINUTE, &[2]));
        waits.see(&view(start + 6 * MINUTE, &[1, 2]));
        assert!(!waits.is_longer(first, MINUTE) && waits.is_longer(second, 2 * MINUTE));
    }
}
