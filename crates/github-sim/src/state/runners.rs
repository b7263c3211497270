//! Registrations.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Event, Scope, State};
use crate::RunnerView;

/// GitHub's own bound.
const MAX_RUNNERS: usize = 10_000;

/// Where a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// It speaks to the simulator over HTTP.
    Remote,
    /// It is simulated by the program that holds the simulator.
    InProcess,
    /// It was, and is gone without a word.
    Vanished,
}

/// A runner that listens.
pub(crate) struct Session {
    pub(crate) id: String,
    /// Chosen by the listener, so that a repeated request finds its session.
    pub(crate) nonce: String,
    pub(crate) last_seen: Instant,
    /// How many of its requests wait for an answer now.
    pub(crate) waiting: usize,
    pub(crate) listener: Listener,
}

/// A registered runner.
pub(crate) struct Runner {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) group_id: u64,
    pub(crate) ephemeral: bool,
    /// What the listener proves itself with.
    pub(crate) secret: String,
    /// Whether it was made by a just-in-time config, which serves one listener only.
    pub(crate) jit: bool,
    pub(crate) first_nonce: Option<String>,
    pub(crate) session: Option<Session>,
    /// The scale set that it belongs to.
    pub(crate) scale_set: Option<u64>,
    /// The job that it has, from the assignment on.
    pub(crate) job: Option<u64>,
    /// It had its only job.
    pub(crate) spent: bool,
    /// It shows as online and idle, and is given no job.
    pub(crate) ghost: bool,
    pub(crate) registered_at: Timestamp,
    pub(crate) online_at: Option<Timestamp>,
    /// Told when there is something new for its listener.
    pub(crate) notify: Arc<Notify>,
}

/// What a new runner shall be.
#[derive(Debug, Clone)]
pub(crate) struct NewRunner {
    pub(crate) scope: Scope,
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) group_id: u64,
    pub(crate) ephemeral: bool,
    pub(crate) jit: bool,
}

/// Why a call about a runner is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotFound,
    NameTaken,
    Busy,
    Full,
}

impl Runner {
    pub(crate) fn is_online(&self) -> bool {
        self.session.is_some()
    }

    pub(crate) fn is_free(&self) -> bool {
        let session = self.session.as_ref();
        let listens = session.is_some_and(|session| session.listener != Listener::Vanished);
        listens && self.job.is_none() && !self.spent && !self.ghost
    }

    /// Whether all these labels are among its own, letter case aside.
    pub(crate) fn has_labels(&self, wanted: &[String]) -> bool {
        let has = |label: &String| {
            self.labels
                .iter()
                .any(|own| own.eq_ignore_ascii_case(label))
        };
        wanted.iter().all(has)
    }

    pub(crate) fn view(&self) -> RunnerView {
        RunnerView {
            id: self.id,
            name: self.name.clone(),
            scope: self.scope.api_path(),
            online: self.is_online(),
            busy: self.job.is_some(),
            labels: self.labels.clone(),
            ephemeral: self.ephemeral,
            registered_at: self.registered_at,
            online_at: self.online_at,
        }
    }
}

/// Says what is wrong with a name and labels, if anything.
pub(crate) fn check_request(name: &str, labels: &[String]) -> Result<(), String> {
    if name.is_empty() || name.chars().count() > 64 {
        return Err("name must have 1 to 64 characters".into());
    }
    if name.contains(['"', '/', ':', '<', '>', '\\', '|', '*', '?']) {
        return Err("name contains characters that are not allowed".into());
    }
    if labels.is_empty() || labels.len() > 100 {
        return Err("labels must have 1 to 100 items".into());
    }
    if labels
        .iter()
        .any(|l| l.is_empty() || l.chars().count() > 256)
    {
        return Err("a label must have 1 to 256 characters".into());
    }
    Ok(())
}

impl State {
    /// Registers a runner.
    pub(crate) fn register(&mut self, new: NewRunner) -> Result<&Runner, Refusal> {
        if self.runners.len() >= MAX_RUNNERS {
            return Err(Refusal::Full);
        }
        if self.named(&new.scope, &new.name).is_some() {
            return Err(Refusal::NameTaken);
        }
        let id = self.next_runner;
        self.next_runner += 1;
        self.registrations_created += 1;
        let runner = Runner {
            id,
            scope: new.scope,
            name: new.name,
            labels: new.labels,
            group_id: new.group_id,
            ephemeral: new.ephemeral,
            secret: self.environment.rng.text(40),
            jit: new.jit,
            first_nonce: None,
            session: None,
            scale_set: None,
            job: None,
            spent: false,
            ghost: self.ghosts,
            registered_at: self.now(),
            online_at: None,
            notify: Arc::new(Notify::new()),
        };
        Ok(self.runners.entry(id).or_insert(runner))
    }

    /// The id of the runner of this name, letter case aside.
    pub(crate) fn named(&self, scope: &Scope, name: &str) -> Option<u64> {
        let same = |r: &&Runner| r.scope.is(scope) && r.name.eq_ignore_ascii_case(name);
        self.runners.values().find(same).map(|runner| runner.id)
    }

    pub(crate) fn runners_of<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Runner> {
        self.runners.values().filter(|r| r.scope.is(scope))
    }

    /// Gives a runner no job from now on, although it shows as online and idle. False when it is
    /// unknown.
    pub(crate) fn make_ghost(&mut self, id: u64) -> bool {
        let runner = self.runners.get_mut(&id);
        runner.map(|runner| runner.ghost = true).is_some()
    }

    /// Whether runners that register from now on are given no job.
    pub(crate) fn make_ghosts(&mut self, ghosts: bool) {
        self.ghosts = ghosts;
    }

    pub(crate) fn runner(&self, id: u64) -> Option<&Runner> {
        self.runners.get(&id)
    }

    /// Removes a registration; its listener, if any, hears that it is gone.
    pub(crate) fn delete_runner(&mut self, scope: &Scope, id: u64) -> Result<(), Refusal> {
        let runner = self.runners.get(&id).filter(|r| r.scope.is(scope));
        let runner = runner.ok_or(Refusal::NotFound)?;
        if runner.job.is_some() {
            return Err(Refusal::Busy);
        }
        let name = runner.name.clone();
        self.drop_runner(id);
        self.events.push(Event::RunnerDeleted(name));
        Ok(())
    }

    pub(super) fn drop_runner(&mut self, id: u64) {
        if let Some(runner) = self.runners.remove(&id) {
            runner.notify.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimConfig;
    use crate::environment::Environment;

    fn new(name: &str) -> NewRunner {
        NewRunner {
            scope: Scope::Org("acme".into()),
            name: name.into(),
            labels: vec!["Linux".into(), "x64".into()],
            group_id: 1,
            ephemeral: true,
            jit: true,
        }
    }

    #[test]
    fn names_are_unique_in_a_scope_whatever_their_case() {
        let mut state = State::new(&SimConfig::default(), Environment::default());
        let id = state.register(new("a")).map(|r| r.id).unwrap();
        assert_eq!(state.register(new("A")).err(), Some(Refusal::NameTaken));
        let scope = Scope::Org("other".into());
        assert_eq!(state.delete_runner(&scope, id), Err(Refusal::NotFound));
        let scope = Scope::Org("ACME".into());
        assert_eq!(state.delete_runner(&scope, id), Ok(()));
        assert_eq!(state.delete_runner(&scope, id), Err(Refusal::NotFound));
    }

    #[test]
    fn labels_match_whatever_their_case() {
        let mut state = State::new(&SimConfig::default(), Environment::default());
        let runner = state.register(new("a")).unwrap();
        assert!(runner.has_labels(&["linux".into(), "X64".into()]));
        assert!(!runner.has_labels(&["linux".into(), "gpu".into()]));
    }

    #[test]
    fn odd_names_and_labels_are_refused() {
        let labels = ["x".to_owned()];
        assert!(check_request("fine-1", &labels).is_ok());
        for name in ["", "a/b", "a*", &"x".repeat(65)] {
            assert!(check_request(name, &labels).is_err(), "{name}");
        }
        assert!(check_request("a", &[]).is_err());
        assert!(check_request("a", &[String::new()]).is_err());
    }
}
