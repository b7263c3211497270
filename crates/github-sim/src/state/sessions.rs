//! The listeners' sessions.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::runners::{Listener, Session};
use super::{Job, Runner, State};
use crate::JobStatus;

/// What came of a request for a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    Session(String),
    /// No such registration, or a wrong secret.
    Unknown,
    /// Another listener has the session now.
    Conflict,
    /// The just-in-time config served another listener already.
    Used,
}

/// What there is for a listener now.
pub(crate) enum Work {
    /// The session has ended or the registration is gone.
    Gone,
    Nothing,
    Job(Box<Job>),
}

impl State {
    /// Opens a session, or gives the one that this listener has already.
    pub(crate) fn open(&mut self, runner: u64, secret: &str, nonce: &str) -> Opened {
        let now = self.now();
        let known = self.runners.get_mut(&runner);
        let Some(runner) = known.filter(|r| r.secret == secret && !r.spent) else {
            return Opened::Unknown;
        };
        let first = runner.first_nonce.get_or_insert_with(|| nonce.to_owned());
        if runner.jit && first != nonce {
            return Opened::Used;
        }
        match &mut runner.session {
            Some(session) if session.nonce != nonce => Opened::Conflict,
            Some(session) => {
                session.last_seen = Instant::now();
                Opened::Session(session.id.clone())
            }
            empty => {
                let id = self.environment.rng.text(32);
                *empty = Some(Session {
                    id: id.clone(),
                    nonce: nonce.to_owned(),
                    last_seen: Instant::now(),
                    waiting: 0,
                    listener: Listener::Remote,
                });
                runner.online_at.get_or_insert(now);
                Opened::Session(id)
            }
        }
    }

    /// A listener within this process connects, which begins a job as soon as it is given one.
    /// False when its registration is gone.
    pub(crate) fn connect(&mut self, runner: u64) -> bool {
        let now = self.now();
        let known = self.runners.get_mut(&runner);
        let Some(runner) = known.filter(|runner| !runner.spent) else {
            return false;
        };
        runner.session = Some(Session {
            id: self.environment.rng.text(32),
            nonce: String::new(),
            last_seen: Instant::now(),
            waiting: 1,
            listener: Listener::InProcess,
        });
        runner.online_at.get_or_insert(now);
        true
    }

    /// A listener within this process is gone: it gets no job, and still shows as online.
    pub(crate) fn vanish(&mut self, runner: u64) {
        let runner = self.runners.get_mut(&runner);
        if let Some(session) = runner.and_then(|runner| runner.session.as_mut()) {
            session.listener = Listener::Vanished;
        }
    }

    /// A request of this session begins to wait: its runner's id, and what tells it of news.
    pub(crate) fn enter(&mut self, session: &str) -> Option<(u64, Arc<Notify>)> {
        let runner = self.of_session(session)?;
        if let Some(session) = &mut runner.session {
            session.waiting += 1;
            session.last_seen = Instant::now();
        }
        Some((runner.id, runner.notify.clone()))
    }

    /// A request of this session has ended, answered or not.
    pub(crate) fn leave(&mut self, session: &str) {
        let runner = self.of_session(session);
        if let Some(session) = runner.and_then(|runner| runner.session.as_mut()) {
            session.waiting = session.waiting.saturating_sub(1);
            session.last_seen = Instant::now();
        }
    }

    /// What there is for the listener: the job that it was given, again and again until begun.
    pub(crate) fn work(&self, session: &str) -> Work {
        let own = |r: &&Runner| r.session.as_ref().is_some_and(|s| s.id == session);
        let Some(runner) = self.runners.values().find(own) else {
            return Work::Gone;
        };
        let job = runner.job.and_then(|id| self.jobs.get(&id));
        job.map_or(Work::Nothing, |job| Work::Job(Box::new(job.clone())))
    }

    /// Whether the job of this session was cancelled; none when the session is gone.
    pub(crate) fn is_cancelled(&self, session: &str) -> Option<bool> {
        match self.work(session) {
            Work::Gone => None,
            Work::Nothing => Some(false),
            Work::Job(job) => Some(job.status == JobStatus::Completed),
        }
    }

    /// The listener says goodbye.
    pub(crate) fn close(&mut self, session: &str) {
        if let Some(id) = self.of_session(session).map(|runner| runner.id) {
            self.lose(id);
        }
    }

    pub(crate) fn has_silent(&self, silence: Duration) -> bool {
        self.runners.values().any(|r| is_silent(r, silence))
    }

    /// Ends the sessions that were silent for this long.
    pub(crate) fn end_silent(&mut self, silence: Duration) {
        let silent = |r: &&Runner| is_silent(r, silence);
        let ids: Vec<u64> = self.runners.values().filter(silent).map(|r| r.id).collect();
        for id in ids {
            self.lose(id);
        }
    }

    fn of_session(&mut self, session: &str) -> Option<&mut Runner> {
        let own = |r: &&mut Runner| r.session.as_ref().is_some_and(|s| s.id == session);
        self.runners.values_mut().find(own)
    }
}

fn is_silent(runner: &Runner, silence: Duration) -> bool {
    let session = runner.session.as_ref();
    session.is_some_and(|s| s.waiting == 0 && s.last_seen.elapsed() >= silence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::state::{NewRunner, Scope};
    use crate::{Conclusion, JobSpec, RunnerChoice, SimConfig};

    fn state() -> (State, u64, String) {
        let mut state = State::new(&SimConfig::default(), Environment::default());
        let new = NewRunner {
            scope: Scope::Org("acme".into()),
            name: "a".into(),
            labels: vec!["x".into()],
            group_id: 1,
            ephemeral: true,
            jit: true,
        };
        let (id, secret) = state
            .register(new)
            .map(|r| (r.id, r.secret.clone()))
            .unwrap();
        (state, id, secret)
    }

    fn opened(state: &mut State, id: u64, secret: &str) -> String {
        match state.open(id, secret, "n") {
            Opened::Session(session) => session,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_jit_config_serves_one_listener() {
        let (mut state, id, secret) = state();
        assert_eq!(state.open(id, "wrong", "n"), Opened::Unknown);
        let session = opened(&mut state, id, &secret);
        assert_eq!(opened(&mut state, id, &secret), session);
        assert_eq!(state.open(id, &secret, "other"), Opened::Used);
        state.close(&session);
        assert_eq!(state.open(id, &secret, "other"), Opened::Used);
        assert_ne!(opened(&mut state, id, &secret), session);
    }

    #[test]
    fn a_job_that_never_began_waits_again_and_one_that_did_is_lost() {
        let (mut state, id, secret) = state();
        let job = state.queue_job(JobSpec::new("acme/app", &["X"])).unwrap();
        let session = opened(&mut state, id, &secret);
        state.assign(RunnerChoice::Oldest);
        assert!(matches!(state.work(&session), Work::Job(found) if found.id == job));
        state.close(&session);
        assert_eq!(state.job(job).unwrap().status, JobStatus::Queued);
        let session = opened(&mut state, id, &secret);
        state.assign(RunnerChoice::Oldest);
        assert!(state.begin(id, job));
        state.end_silent(Duration::ZERO);
        assert!(matches!(state.work(&session), Work::Gone));
        let view = state.job(job).unwrap().view();
        assert_eq!(view.conclusion, Some(Conclusion::Failure));
        assert!(view.reason.unwrap().contains("lost communication"));
        assert!(!state.runner_views()[0].online);
        assert_eq!(state.open(id, &secret, "n"), Opened::Unknown);
    }
}
