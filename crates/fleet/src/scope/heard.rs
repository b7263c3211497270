//! What webhooks told, laid over what was seen.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use runner_manager_github::{JobEvent, RemoteRunner};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ScopeView;
use crate::board::Board;

/// GitHub's lists may lag behind its webhooks by this much.
const LAG: Duration = Duration::from_secs(5);
/// How long events are remembered, and how many: a look takes no longer.
const MEMORY: Duration = Duration::from_secs(120);
const REMEMBERED: usize = 20_000;

/// The events of one scope.
pub(super) struct Heard {
    events: mpsc::Receiver<JobEvent>,
    recent: VecDeque<(Instant, JobEvent)>,
    /// The jobs of the remembered events that have begun: that one of them was queued may be told
    /// later, and is no news.
    begun: HashSet<u64>,
}

impl Heard {
    pub(super) fn new(events: mpsc::Receiver<JobEvent>) -> Self {
        Self {
            events,
            recent: VecDeque::new(),
            begun: HashSet::new(),
        }
    }

    /// Awaits something, and shows meanwhile what is heard.
    pub(super) async fn meanwhile<T>(
        &mut self,
        views: &Board<ScopeView>,
        work: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(work);
        loop {
            // The work first, so that a stream of events cannot hold it up.
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(event) = self.events.recv() => self.show(views, event),
            }
        }
    }

    /// Shows an event, and those that came with it, as one change.
    fn show(&mut self, views: &Board<ScopeView>, first: JobEvent) {
        let mut news = vec![first];
        while let Ok(event) = self.events.try_recv() {
            news.push(event);
        }
        for event in &news {
            if event.job.status != "queued" {
                self.begun.insert(event.job.id);
            }
        }
        news.retain(|event| event.job.status != "queued" || !self.begun.contains(&event.job.id));
        // Before the first look nothing is decided; it will be completed by what was heard.
        if views.get().began.is_some() {
            views.send_modify(|view| {
                for event in &news {
                    apply(view, event);
                }
            });
        }
        let now = Instant::now();
        self.recent
            .extend(news.into_iter().map(|event| (now, event)));
        let excess = self.recent.len().saturating_sub(REMEMBERED);
        for (_, event) in self.recent.drain(..excess) {
            self.begun.remove(&event.job.id);
        }
    }

    /// Adds to a new look what was heard since it began, and the queued and completed jobs that
    /// GitHub's lists may not show as such yet.
    pub(super) fn complete(&mut self, view: &mut ScopeView) {
        self.recent.retain(|(at, event)| {
            let keep = at.elapsed() < MEMORY;
            if !keep {
                self.begun.remove(&event.job.id);
            }
            keep
        });
        let Some(began) = view.began else { return };
        let newest: HashMap<u64, usize> = self
            .recent
            .iter()
            .enumerate()
            .map(|(index, (_, event))| (event.job.id, index))
            .collect();
        for (index, (at, event)) in self.recent.iter().enumerate() {
            let is_news = *at >= began;
            let lags = match event.job.status.as_str() {
                "queued" => newest.get(&event.job.id) == Some(&index),
                status => status == "completed",
            };
            if is_news || (lags && *at + LAG >= began) {
                apply(view, event);
            }
        }
    }
}

fn apply(view: &mut ScopeView, event: &JobEvent) {
    let job = &event.job;
    if job.status == "queued" {
        if !view.queued.iter().any(|known| known.id == job.id) {
            view.queued.push(job.clone());
        }
        return;
    }
    view.queued.retain(|known| known.id != job.id);
    let Some(name) = job.runner_name.clone() else {
        return;
    };
    if job.status == "completed" {
        view.finished.insert(name);
    } else if let Some(id) = event.runner_id {
        let runner = view.runners.entry(name.clone()).or_insert(RemoteRunner {
            id,
            name,
            online: true,
            busy: true,
            labels: job.labels.clone(),
            ephemeral: None,
        });
        runner.online = true;
        runner.busy = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use runner_manager_github::RemoteJob;

    fn event(id: u64, status: &str) -> JobEvent {
        let runner = (status != "queued").then_some(id);
        JobEvent {
            job: RemoteJob {
                id,
                run_id: id,
                name: "build".into(),
                owner: "octo".into(),
                repo: "hello".into(),
                labels: vec!["linux".into()],
                status: status.into(),
                conclusion: None,
                runner_name: runner.map(|id| format!("app-{id}")),
                created_at: Timestamp::UNIX_EPOCH,
                started_at: None,
                completed_at: None,
            },
            runner_id: runner,
        }
    }

    fn queued(view: &ScopeView) -> Vec<u64> {
        view.queued.iter().map(|job| job.id).collect()
    }

    #[test]
    fn a_job_is_queued_once_and_leaves_with_its_runner_busy() {
        let mut view = ScopeView::default();
        apply(&mut view, &event(1, "queued"));
        apply(&mut view, &event(1, "queued"));
        assert_eq!(queued(&view), [1]);
        apply(&mut view, &event(1, "in_progress"));
        assert!(view.queued.is_empty());
        assert!(view.runners["app-1"].busy);
        apply(&mut view, &event(1, "completed"));
        assert!(view.finished.contains("app-1"));
    }

    #[tokio::test]
    async fn that_a_job_is_queued_is_no_news_once_it_has_begun() {
        let (tell, events) = mpsc::channel(8);
        let mut heard = Heard::new(events);
        let views = Board::new(ScopeView {
            began: Some(Instant::now()),
            ..ScopeView::default()
        });
        for told in [vec![(1, "in_progress")], vec![(1, "queued"), (2, "queued")]] {
            for (id, status) in told {
                tell.send(event(id, status)).await.unwrap();
            }
            heard.meanwhile(&views, tokio::task::yield_now()).await;
        }
        assert_eq!(queued(&views.get()), [2]);
    }

    #[tokio::test]
    async fn a_look_is_completed_by_what_came_while_it_was_taken() {
        let (tell, events) = mpsc::channel(8);
        let mut heard = Heard::new(events);
        let views = Board::new(ScopeView::default());
        let began = Instant::now();
        let work = async {
            for (id, status) in [(1, "queued"), (2, "queued"), (2, "in_progress")] {
                tell.send(event(id, status)).await.unwrap();
            }
            tokio::task::yield_now().await;
        };
        heard.meanwhile(&views, work).await;
        heard.meanwhile(&views, tokio::task::yield_now()).await;
        let mut view = ScopeView {
            began: Some(began),
            ..ScopeView::default()
        };
        heard.complete(&mut view);
        assert_eq!(queued(&view), [1]);
        assert!(view.runners["app-2"].busy);
        // A later look may lack what was heard just before it, but not bring back what went.
        let mut later = ScopeView {
            began: Some(Instant::now() + Duration::from_secs(1)),
            ..ScopeView::default()
        };
        heard.complete(&mut later);
        assert_eq!(queued(&later), [1]);
        assert!(later.runners.is_empty());
    }
}
