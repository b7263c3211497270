//! What webhooks told, laid over what was seen.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use runner_manager_github::{JobEvent, RemoteJob, RemoteRunner};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ScopeView;
use crate::board::Board;

/// GitHub's lists may lag behind its webhooks by this much.
const LAG: Duration = Duration::from_secs(5);
/// How long events are remembered, and how many: a look takes no longer.
const MEMORY: Duration = Duration::from_secs(120);
const REMEMBERED: usize = 20_000;
/// How long a job stays known as queued without another word: GitHub gives it up after a day.
const DAY: Duration = Duration::from_secs(86_400);
/// How many such jobs are asked for in a look, and the pauses between two questions about one.
const ASKED: usize = 32;
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A job that was told to be queued, and nothing else since.
struct Waiting {
    job: RemoteJob,
    since: Instant,
    /// When it may be asked for next: GitHub's lists need not show it, as those of the runs that
    /// wait for an approval, or of a repository that the credential may not read.
    ask_at: Instant,
    asked: u32,
    /// Whether it is of an earlier life of the manager: it counts once it was asked for.
    is_stored: bool,
}

/// The events of one scope.
pub(super) struct Heard {
    events: mpsc::Receiver<JobEvent>,
    recent: VecDeque<(Instant, JobEvent)>,
    /// The jobs of the remembered events that have begun: that one of them was queued may be told
    /// later, and is no news.
    begun: HashSet<u64>,
    /// The jobs that wait, by id, until an event, a look or GitHub's answer says otherwise.
    waiting: BTreeMap<u64, Waiting>,
    is_new: bool,
}

impl Heard {
    pub(super) fn new(events: mpsc::Receiver<JobEvent>) -> Self {
        Self {
            events,
            recent: VecDeque::new(),
            begun: HashSet::new(),
            waiting: BTreeMap::new(),
            is_new: true,
        }
    }

    /// Whether the jobs of an earlier life were not remembered yet.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Takes the jobs that were queued in an earlier life of the manager.
    pub(super) fn remember(&mut self, jobs: impl Iterator<Item = RemoteJob>) {
        self.is_new = false;
        let now = Instant::now();
        for job in jobs {
            if !self.begun.contains(&job.id) && self.waiting.len() < REMEMBERED {
                self.waiting.entry(job.id).or_insert(Waiting {
                    job,
                    since: now,
                    ask_at: now,
                    asked: 0,
                    is_stored: true,
                });
            }
        }
    }

    /// The jobs to ask for: those that wait as far as is known, and that the look does not show,
    /// the longest unasked first.
    pub(super) fn due(&self, view: &ScopeView) -> Vec<RemoteJob> {
        let shown: HashSet<u64> = view.queued.iter().map(|job| job.id).collect();
        let now = Instant::now();
        let mut due: Vec<&Waiting> = self
            .waiting
            .values()
            .filter(|waiting| waiting.ask_at <= now && !shown.contains(&waiting.job.id))
            .collect();
        due.sort_by_key(|waiting| (waiting.ask_at, waiting.job.id));
        due.truncate(ASKED);
        due.into_iter().map(|waiting| waiting.job.clone()).collect()
    }

    /// GitHub was asked for a job: whether it waits no more.
    pub(super) fn answered(&mut self, job: u64, is_over: bool) {
        if is_over {
            self.waiting.remove(&job);
        } else if let Some(waiting) = self.waiting.get_mut(&job) {
            let pause = SHORTEST_PAUSE.saturating_mul(2_u32.saturating_pow(waiting.asked));
            waiting.asked += 1;
            waiting.ask_at = Instant::now() + pause.min(LONGEST_PAUSE);
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
        let now = Instant::now();
        for event in &news {
            if event.job.status != "queued" {
                self.begun.insert(event.job.id);
                self.waiting.remove(&event.job.id);
            }
        }
        news.retain(|event| event.job.status != "queued" || !self.begun.contains(&event.job.id));
        for event in news.iter().filter(|event| event.job.status == "queued") {
            if self.waiting.len() < REMEMBERED {
                let waiting = Waiting {
                    job: event.job.clone(),
                    since: now,
                    ask_at: now + LAG,
                    asked: 0,
                    is_stored: false,
                };
                self.waiting
                    .entry(event.job.id)
                    .or_insert(waiting)
                    .is_stored = false;
            }
        }
        // Before the first look nothing is decided; it will be completed by what was heard.
        if views.get().began.is_some() {
            views.send_modify(|view| {
                for event in &news {
                    apply(view, event);
                }
            });
        }
        self.recent
            .extend(news.into_iter().map(|event| (now, event)));
        let excess = self.recent.len().saturating_sub(REMEMBERED);
        for (_, event) in self.recent.drain(..excess) {
            self.begun.remove(&event.job.id);
        }
    }

    /// Adds to a new look what was heard since it began, the completed jobs that GitHub's lists may
    /// not show as such yet, and the jobs that wait as far as is known. `begun` are the jobs that
    /// the look found in another state, asked for at `polled`.
    pub(super) fn complete(&mut self, view: &mut ScopeView, begun: &HashSet<u64>, polled: Instant) {
        self.recent.retain(|(at, event)| {
            let keep = at.elapsed() < MEMORY;
            if !keep {
                self.begun.remove(&event.job.id);
            }
            keep
        });
        // What was told since the question is newer than the answer.
        self.waiting.retain(|id, waiting| {
            let is_answered = begun.contains(id) && waiting.since <= polled;
            !is_answered && waiting.since.elapsed() < DAY
        });
        let Some(began) = view.began else { return };
        for (at, event) in &self.recent {
            if event.job.status == "queued" {
                continue;
            }
            if *at >= began || (event.job.status == "completed" && *at + LAG >= began) {
                apply(view, event);
            } else if *at + LAG >= polled {
                view.queued.retain(|known| known.id != event.job.id);
            }
        }
        let shown: HashSet<u64> = view.queued.iter().map(|job| job.id).collect();
        let unshown = self.waiting.iter().filter(|(id, waiting)| {
            let is_known = !waiting.is_stored || waiting.asked > 0;
            is_known && !shown.contains(id) && !self.begun.contains(id)
        });
        view.queued
            .extend(unshown.map(|(_, waiting)| waiting.job.clone()));
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
        heard.complete(&mut view, &HashSet::new(), began);
        assert_eq!(queued(&view), [1]);
        assert!(view.runners["app-2"].busy);
        // A later look may lack what was heard just before it, but not bring back what went.
        let mut later = ScopeView {
            began: Some(Instant::now() + Duration::from_secs(1)),
            ..ScopeView::default()
        };
        heard.complete(&mut later, &HashSet::new(), Instant::now());
        assert_eq!(queued(&later), [1]);
        assert!(later.runners.is_empty());
    }

    /// What a look that begins now and lists no job shows in the end.
    fn look(heard: &mut Heard, begun: &[u64]) -> Vec<u64> {
        let now = Instant::now();
        let mut view = ScopeView {
            began: Some(now),
            ..ScopeView::default()
        };
        heard.complete(&mut view, &begun.iter().copied().collect(), now);
        queued(&view)
    }

    fn due(heard: &Heard) -> Vec<u64> {
        let due = heard.due(&ScopeView::default());
        due.into_iter().map(|job| job.id).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_was_told_to_be_queued_waits_until_something_says_otherwise() {
        let (tell, events) = mpsc::channel(8);
        let mut heard = Heard::new(events);
        let views = Board::new(ScopeView::default());
        for id in 1..=5 {
            tell.send(event(id, "queued")).await.unwrap();
        }
        heard.meanwhile(&views, tokio::task::yield_now()).await;
        assert!(due(&heard).is_empty(), "the lists may lag");
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(look(&mut heard, &[]), [1, 2, 3, 4, 5]);
        assert_eq!(due(&heard), [1, 2, 3, 4, 5]);
        heard.answered(1, true);
        heard.answered(2, false);
        assert_eq!(due(&heard), [3, 4, 5], "not again at once");
        tell.send(event(3, "completed")).await.unwrap();
        heard.meanwhile(&views, tokio::task::yield_now()).await;
        assert_eq!(look(&mut heard, &[4]), [2, 5]);
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(
            look(&mut heard, &[]),
            [] as [u64; 0],
            "GitHub gives up after a day"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_of_an_earlier_life_counts_once_it_was_asked_for() {
        let (_tell, events) = mpsc::channel(8);
        let mut heard = Heard::new(events);
        assert!(heard.is_new());
        heard.remember([1, 2].map(|id| event(id, "queued").job).into_iter());
        assert!(!heard.is_new());
        assert_eq!(due(&heard), [1, 2]);
        assert_eq!(look(&mut heard, &[]), [] as [u64; 0]);
        heard.answered(1, true);
        heard.answered(2, false);
        assert_eq!(look(&mut heard, &[]), [2]);
    }
}
