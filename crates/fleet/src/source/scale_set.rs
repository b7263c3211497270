//! A pool's listener on the queue of its runner scale set.
//!
//! The numbers that come with a session and with each message are the truth about the demand;
//! messages are never counted. A message is acknowledged once it has taken effect: its jobs are
//! stored, its news is told, its numbers stand. One that fails is not, and comes again after a
//! pause. After a crash the next session brings the numbers of then.

use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{Error, ErrorKind, GitHubPath, Result};
use runner_manager_github::{
    JobEvent, RemoteJob, ScaleSetJob, ScaleSetJobState, ScaleSetMessage, ScaleSetSession,
    ScaleSetSpec, Statistics,
};
use runner_manager_store::QueueSession;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::demand::{Demand, Feed};
use crate::job_log::row;
use crate::operation::Shared;
use crate::scope::pause_after;

/// The pause after the first failure.
const RETRY: Duration = Duration::from_secs(1);
/// The longest pause while another listener has the queue: it may end at any time.
const CONFLICT: Duration = Duration::from_secs(30);
/// A message that was waited for this long was not left over from an earlier session.
const WAITED: Duration = Duration::from_secs(1);

/// A pool's scale set.
#[derive(Debug, Clone)]
pub struct ScaleSetConfig {
    /// Its name, unique in its runner group.
    pub name: String,
    /// What the listener calls itself: the same after a restart, and another for every other
    /// manager.
    pub owner: String,
}

/// The listener.
pub(super) struct Listener {
    pub(super) pool: String,
    pub(super) path: GitHubPath,
    pub(super) spec: ScaleSetSpec,
    pub(super) owner: String,
    /// How many jobs may be assigned in all.
    pub(super) capacity: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) feed: Arc<watch::Sender<Feed>>,
    pub(super) events: mpsc::Sender<JobEvent>,
}

/// An open session, and how far its queue was read.
struct Open {
    set: u64,
    session: ScaleSetSession,
    last: u64,
    /// Whether what comes now can be no leftover of an earlier session.
    caught_up: bool,
    /// Whether jobs may be offered that no message tells of any more.
    has_offers: bool,
}

impl Listener {
    /// Listens until stopped, and then closes the session.
    pub(super) async fn listen(self, stop: CancellationToken) {
        let mut failures = 0_u32;
        let mut open: Option<Open> = None;
        loop {
            let outcome = stop
                .run_until_cancelled(self.work(&mut open, &mut failures))
                .await;
            let Some(error) = outcome else {
                if let Some(open) = open {
                    self.close(open.session).await;
                }
                return;
            };
            failures += 1;
            let mut pause = pause_after(&error, failures, RETRY);
            match error.kind() {
                // The session is gone, or nobody knows it any more.
                ErrorKind::NotFound | ErrorKind::Unauthenticated => {
                    if let Some(open) = open.take() {
                        self.close(open.session).await;
                    }
                }
                ErrorKind::AlreadyExists => pause = pause.min(CONFLICT),
                _ => {}
            }
            let pause = self.shared.chance.spread(pause);
            tracing::warn!(pool = self.pool, %error, failures, ?pause, "cannot follow the scale set");
            self.feed
                .send_modify(|feed| feed.error = Some(error.to_string()));
            let slept = stop.run_until_cancelled(tokio::time::sleep(pause));
            // Stopped: the next round sees it, and closes.
            let _ = slept.await;
        }
    }

    /// Opens the session where there is none, and reads its queue until something fails.
    async fn work(&self, open: &mut Option<Open>, failures: &mut u32) -> Error {
        if open.is_none() {
            match self.open().await {
                Ok(session) => *open = Some(session),
                Err(error) => return error,
            }
        }
        let Some(open) = open else {
            return Error::new(ErrorKind::Unexpected, "there is no session");
        };
        loop {
            match self.step(open).await {
                Ok(()) => *failures = 0,
                Err(error) => return error,
            }
        }
    }

    async fn open(&self) -> Result<Open> {
        let github = &self.shared.github;
        let set = github.scale_set(&self.path, &self.spec).await?;
        self.close_left_over().await?;
        let opened = github.open_session(&self.path, set.id, &self.owner).await;
        let session = opened.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => Error::new(
                ErrorKind::AlreadyExists,
                "another listener has the scale set's session; stop it, or give `scale_set.name` another name. One that was killed loses its session after about two minutes",
            )
            .with_context("scale set", &set.name)
            .with_source(error),
            _ => error,
        })?;
        tracing::info!(
            pool = self.pool,
            scale_set = set.name,
            id = set.id,
            "listening to the scale set"
        );
        let stored = QueueSession {
            scale_set: set.id,
            id: session.id().to_owned(),
        };
        self.shared.store.opened_session(&self.pool, stored).await?;
        let numbers = session.statistics();
        self.tell(numbers);
        Ok(Open {
            set: set.id,
            session,
            last: 0,
            caught_up: false,
            has_offers: numbers.total_available_jobs > 0,
        })
    }

    /// Closes the session of an earlier run that was cut off: GitHub would keep it for about 90 s.
    async fn close_left_over(&self) -> Result<()> {
        let shared = &self.shared;
        let Some(left) = shared.store.open_session(&self.pool).await? else {
            return Ok(());
        };
        let set = left.scale_set;
        shared
            .github
            .close_session(&self.path, set, &left.id)
            .await?;
        tracing::info!(
            pool = self.pool,
            id = set,
            "the session of an earlier run is closed"
        );
        shared.store.closed_session(&self.pool).await
    }

    /// Waits for one message and sees it through.
    async fn step(&self, open: &mut Open) -> Result<()> {
        if open.has_offers {
            self.acquire_left(open).await?;
        }
        let began = Instant::now();
        let message = open.session.next(open.last, self.capacity).await?;
        open.caught_up |= message.is_none() || began.elapsed() >= WAITED;
        let Some(message) = message else {
            return self.look(open).await;
        };
        // Before its jobs: a runner whose job has ended would else be missed among those at work
        // while its job still counts, and another would be launched for it.
        match message.statistics {
            Some(numbers) if open.caught_up => self.tell(numbers),
            // The numbers are as old as the message.
            _ => self.look(open).await?,
        }
        // After the numbers, which stand whatever becomes of the offers.
        self.acquire(open, &message).await?;
        self.take(&message).await?;
        open.session.acknowledge(message.id).await?;
        open.last = open.last.max(message.id);
        Ok(())
    }

    /// Asks for the numbers of now.
    async fn look(&self, open: &Open) -> Result<()> {
        let github = &self.shared.github;
        match github.scale_set_statistics(&self.path, open.set).await? {
            Some(numbers) => self.tell(numbers),
            None => {
                return Err(Error::new(ErrorKind::NotFound, "the scale set is gone")
                    .with_context("id", open.set));
            }
        }
        Ok(())
    }

    fn tell(&self, numbers: Statistics) {
        let news = Feed {
            demand: Demand::Jobs(numbers.total_assigned_jobs),
            error: None,
        };
        self.feed.send_if_modified(|feed| {
            let changed = *feed != news;
            *feed = news;
            changed
        });
    }

    /// Takes the jobs that a message offers.
    async fn acquire(&self, open: &mut Open, message: &ScaleSetMessage) -> Result<()> {
        let offered = |job: &&ScaleSetJob| job.state == ScaleSetJobState::Available;
        let offered: Vec<u64> = message
            .jobs
            .iter()
            .filter(offered)
            .map(|job| job.request_id)
            .collect();
        let got = match offered.as_slice() {
            [] => return Ok(()),
            [one] => self.acquire_one(open, *one).await?,
            all => match open.session.acquire(all).await {
                Ok(got) => got.len(),
                Err(error) if is_about_session(&error) => return Err(error),
                // It may be about one of them.
                Err(_) => {
                    let mut got = 0;
                    for one in all {
                        got += self.acquire_one(open, *one).await?;
                    }
                    got
                }
            },
        };
        let offered = offered.len();
        tracing::debug!(pool = self.pool, offered, got, "jobs acquired");
        Ok(())
    }

    /// Takes the jobs that were offered before and not acquired.
    async fn acquire_left(&self, open: &mut Open) -> Result<()> {
        let github = &self.shared.github;
        let left = match github.acquirable_jobs(&self.path, open.set).await {
            Ok(left) => left,
            // A server that does not list them.
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(pool = self.pool, %error, "cannot see which jobs are offered");
                return Ok(());
            }
        };
        open.has_offers = false;
        for request in left {
            self.acquire_one(open, request).await?;
        }
        Ok(())
    }

    /// Takes one offered job. One that is refused holds up no other: where GitHub cannot be reached
    /// at all, the message is not acknowledged either, and comes again.
    async fn acquire_one(&self, open: &mut Open, request: u64) -> Result<usize> {
        match open.session.acquire(&[request]).await {
            Ok(got) => Ok(got.len()),
            Err(error) if is_about_session(&error) => Err(error),
            Err(error) => {
                tracing::warn!(pool = self.pool, request, %error, "an offered job cannot be acquired yet");
                open.has_offers = true;
                Ok(0)
            }
        }
    }

    /// Stores what a message tells of jobs, and passes it on. Twice is as good as once.
    async fn take(&self, message: &ScaleSetMessage) -> Result<()> {
        for told in &message.jobs {
            let job = job(told, self.shared.clock.now());
            let stored = row(&job, Some(self.pool.clone()));
            self.shared.store.record_job(&stored).await?;
            let (id, status) = (job.id, job.status.as_str());
            tracing::info!(
                pool = self.pool,
                job = id,
                status,
                runner = job.runner_name,
                "scale set"
            );
            if status == "queued" {
                continue;
            }
            let event = JobEvent {
                job,
                runner_id: told.runner_id,
            };
            if self.events.try_send(event).is_err() {
                tracing::warn!(
                    pool = self.pool,
                    "too much news at once; the next look finds what was missed"
                );
            }
        }
        Ok(())
    }

    async fn close(&self, session: ScaleSetSession) {
        match session.close().await {
            Ok(()) => {
                tracing::info!(pool = self.pool, "the scale set's session is closed");
                // Closed once more by the next start, it is closed.
                if let Err(error) = self.shared.store.closed_session(&self.pool).await {
                    tracing::warn!(pool = self.pool, %error, "cannot forget the session");
                }
            }
            Err(error) => {
                tracing::warn!(pool = self.pool, %error, "cannot close the scale set's session; the next start takes it over");
            }
        }
    }
}

/// Whether an error is no matter of an offered job: the session is gone, or too much was asked.
fn is_about_session(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::Unauthenticated | ErrorKind::RateLimited
    )
}

/// A job of a scale set, as those of the REST API are told. Where its id is no number, that of
/// its request stands for it.
fn job(told: &ScaleSetJob, now: jiff::Timestamp) -> RemoteJob {
    let (status, ended) = match told.state {
        ScaleSetJobState::Available | ScaleSetJobState::Assigned => ("queued", false),
        ScaleSetJobState::Started => ("in_progress", false),
        ScaleSetJobState::Completed => ("completed", true),
    };
    let conclusion = told.result.as_deref().map(|result| match result {
        "succeeded" => "success".to_owned(),
        "failed" => "failure".to_owned(),
        "canceled" => "cancelled".to_owned(),
        other => other.to_owned(),
    });
    RemoteJob {
        id: told.job_id.parse().unwrap_or(told.request_id),
        run_id: told.run_id,
        name: told.name.clone(),
        owner: told.owner.clone(),
        repo: told.repository.clone(),
        labels: told.labels.clone(),
        status: status.to_owned(),
        conclusion,
        runner_name: told.runner_name.clone(),
        created_at: told.queued_at.unwrap_or(now),
        started_at: told.started_at,
        completed_at: told.completed_at.or(ended.then_some(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_as_the_rest_api_does() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let told = |state, job_id: &str, result: Option<&str>| {
            let told = ScaleSetJob {
                state,
                request_id: 4242,
                job_id: job_id.into(),
                name: "build".into(),
                owner: "octo".into(),
                repository: "hello".into(),
                run_id: 1,
                labels: vec!["big".into()],
                queued_at: None,
                started_at: None,
                completed_at: None,
                runner_id: Some(3),
                runner_name: Some("app-1".into()),
                result: result.map(str::to_owned),
            };
            job(&told, now)
        };
        let waits = told(ScaleSetJobState::Assigned, "77", None);
        assert_eq!((waits.id, waits.status.as_str()), (77, "queued"));
        assert_eq!(waits.completed_at, None);
        let done = told(ScaleSetJobState::Completed, "a-guid", Some("canceled"));
        assert_eq!((done.id, done.status.as_str()), (4242, "completed"));
        assert_eq!(done.conclusion.as_deref(), Some("cancelled"));
        assert_eq!(done.completed_at, Some(now));
    }
}
