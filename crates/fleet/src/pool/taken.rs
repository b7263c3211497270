//! Jobs that runners have taken since GitHub was last looked at, as their instances tell.

use std::collections::BTreeMap;

use runner_manager_core::RunnerName;
use tokio::time::Instant;

use crate::scope::ScopeView;

/// The runners that told of a job, each with the time of its first word.
///
/// The look still shows such a job as one that waits, unless a webhook has told of it too: without
/// this, a runner too many would be launched for every job that ends between two looks.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<RunnerName, Instant>);

impl Taken {
    /// A runner tells that it has a job, or had one.
    pub(super) fn tell(&mut self, name: RunnerName) {
        self.0.entry(name).or_insert_with(Instant::now);
    }

    /// Forgets what a look shows itself: jobs taken before it ended. One that was taken while it
    /// went on may be in it or not; it counts as waiting, since a runner too many costs less than
    /// a job that waits.
    pub(super) fn catch_up(&mut self, view: &ScopeView) {
        self.0
            .retain(|_, told| view.ended.is_none_or(|ended| *told > ended));
    }

    /// How many jobs that the look shows as waiting have been taken since.
    ///
    /// A runner that was online then had no part in what waited: GitHub would have given it a job
    /// already, so that it took one that came later. One that webhooks told of is counted there.
    pub(super) fn of(&self, view: &ScopeView) -> usize {
        let unseen = |name: &&RunnerName| {
            let name = name.as_str();
            let was_online = view.runners.get(name).is_some_and(|r| r.online);
            !was_online && !view.finished.contains(name)
        };
        self.0.keys().filter(unseen).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use runner_manager_github::RemoteRunner;

    fn name(text: &str) -> RunnerName {
        text.parse().unwrap()
    }

    fn runner(name: &str, online: bool, busy: bool) -> (String, RemoteRunner) {
        let runner = RemoteRunner {
            id: 1,
            name: name.into(),
            online,
            busy,
            labels: Vec::new(),
            ephemeral: None,
        };
        (name.into(), runner)
    }

    #[test]
    fn a_job_counts_as_taken_until_a_look_or_a_webhook_shows_it() {
        let [booting, waiting, working, finished] = [
            "app-000000000001",
            "app-000000000002",
            "app-000000000003",
            "app-000000000004",
        ];
        let mut taken = Taken::default();
        for told in [booting, waiting, working, finished] {
            taken.tell(name(told));
            taken.tell(name(told));
        }
        let mut view = ScopeView {
            runners: [
                runner(booting, false, false),
                runner(waiting, true, false),
                runner(working, true, true),
            ]
            .into(),
            finished: [finished.to_owned()].into(),
            ..ScopeView::default()
        };
        assert_eq!(taken.of(&view), 1, "that of the runner that was booting");

        let now = Instant::now();
        view.ended = now.checked_sub(Duration::from_secs(60));
        taken.catch_up(&view);
        assert_eq!(taken.of(&view), 1, "the look ended before the word");
        view.ended = Some(now + Duration::from_secs(60));
        taken.catch_up(&view);
        view.ended = None;
        assert_eq!(taken.of(&view), 0, "the look knows");
    }
}
