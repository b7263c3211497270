//! The queued jobs that all scopes show together: a repository and its organization show the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use runner_manager_github::RemoteJob;

use crate::board::Reader;
use crate::scope::ScopeView;

/// The views of all scopes.
#[derive(Default)]
pub(crate) struct Queues(Mutex<BTreeMap<String, Reader<ScopeView>>>);

impl Queues {
    /// A scope is watched from now on.
    pub(crate) fn add(&self, scope: String, view: Reader<ScopeView>) {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        views.insert(scope, view);
    }

    /// What every scope shows now.
    pub(crate) fn of_all(&self) -> Vec<Arc<ScopeView>> {
        let views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        views.values().map(Reader::get).collect()
    }
}

/// The jobs that wait in any of these views, each once, oldest first.
pub(crate) fn waiting(views: &[Arc<ScopeView>]) -> Vec<&RemoteJob> {
    let mut jobs: Vec<&RemoteJob> = views.iter().flat_map(|view| &view.queued).collect();
    if views.len() > 1 {
        jobs.sort_by_key(|job| (job.created_at, job.id));
        jobs.dedup_by_key(|job| job.id);
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;

    fn view(ids: &[u64]) -> ScopeView {
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
            queued: ids.iter().map(job).collect(),
            ..ScopeView::default()
        }
    }

    #[test]
    fn a_job_that_two_scopes_show_counts_once() {
        let queues = Queues::default();
        let (first, second) = (Board::new(view(&[1, 3])), Board::new(view(&[2, 3, 4])));
        queues.add("a".into(), first.subscribe());
        queues.add("b".into(), second.subscribe());
        let views = queues.of_all();
        let ids: Vec<u64> = waiting(&views).iter().map(|job| job.id).collect();
        assert_eq!(ids, [1, 2, 3, 4]);
    }
}
