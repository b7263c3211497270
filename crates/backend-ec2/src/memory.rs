//! What this process knows better than one look at EC2, which shows things late.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runner_manager_core::{CloudInstance, CloudRunnerState, RunnerName};

/// How long after a launch "not found" is no news.
const SETTLING: Duration = Duration::from_secs(120);
/// How long an instance that was ended here stays hidden, should a look still show it.
const HIDDEN: Duration = Duration::from_secs(600);

/// The instances that this process has launched, seen and ended.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    alive: HashMap<String, Known>,
    ended: HashMap<String, Instant>,
}

#[derive(Debug, Clone)]
struct Known {
    instance: CloudInstance,
    /// When it was launched here; `None` when it was only seen.
    launched: Option<Instant>,
}

impl Memory {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a launch.
    pub(crate) fn launched(&self, instance: &CloudInstance) {
        let known = Known {
            instance: instance.clone(),
            launched: Some(Instant::now()),
        };
        self.facts().alive.insert(instance.native_id.clone(), known);
    }

    /// Notes an end.
    pub(crate) fn ended(&self, id: &str) {
        let mut facts = self.facts();
        facts.alive.remove(id);
        facts.ended.retain(|_, at| at.elapsed() < HIDDEN);
        facts.ended.insert(id.to_owned(), Instant::now());
    }

    /// Takes in what a look shows, and leaves out what has ended, or was ended here. EC2 shows
    /// an instance for up to an hour after its end.
    pub(crate) fn see(&self, shown: Vec<CloudInstance>) -> Vec<CloudInstance> {
        let mut facts = self.facts();
        let mut alive = Vec::with_capacity(shown.len());
        for instance in shown {
            if instance.state == CloudRunnerState::Deleted {
                facts.alive.remove(&instance.native_id);
                continue;
            }
            let is_ended = facts.ended.get(&instance.native_id);
            if is_ended.is_some_and(|at| at.elapsed() < HIDDEN) {
                continue;
            }
            let known = facts.alive.entry(instance.native_id.clone());
            let known = known.or_insert_with(|| Known {
                instance: instance.clone(),
                launched: None,
            });
            known.instance = instance.clone();
            alive.push(instance);
        }
        alive
    }

    /// What is known to be alive and missing among those shown.
    pub(crate) fn missing(&self, shown: &[CloudInstance]) -> Vec<CloudInstance> {
        let facts = self.facts();
        let missing = facts
            .alive
            .iter()
            .filter(|(id, _)| !shown.iter().any(|instance| instance.native_id == **id));
        missing.map(|(_, known)| known.instance.clone()).collect()
    }

    /// The instance of a name that is known to be alive.
    pub(crate) fn named(&self, name: &RunnerName) -> Option<CloudInstance> {
        let facts = self.facts();
        let mut of_name = facts.alive.values().filter(|k| k.instance.name == *name);
        of_name.next().map(|known| known.instance.clone())
    }

    /// Whether an instance that a second look does not show either may still appear: it was
    /// launched a moment ago. Otherwise it is forgotten.
    pub(crate) fn may_appear(&self, id: &str) -> bool {
        let mut facts = self.facts();
        let fresh = facts.alive.get(id).and_then(|known| known.launched);
        if fresh.is_some_and(|at| at.elapsed() < SETTLING) {
            return true;
        }
        facts.alive.remove(id);
        false
    }

    /// Forgets an instance that EC2 shows as gone.
    pub(crate) fn forget(&self, id: &str) {
        self.facts().alive.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn instance(id: &str) -> CloudInstance {
        CloudInstance {
            name: "app-0123456789ab".parse().expect("a name"),
            native_id: id.into(),
            state: CloudRunnerState::Active,
            created_at: Timestamp::UNIX_EPOCH,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_fresh_launch_may_appear_later_and_what_was_only_seen_may_not() {
        let memory = Memory::default();
        memory.launched(&instance("i-1"));
        memory.see(vec![instance("i-2")]);
        assert_eq!(memory.missing(&[]).len(), 2);
        assert!(memory.may_appear("i-1"));
        assert!(!memory.may_appear("i-2"));
        assert_eq!(memory.missing(&[]).len(), 1);
        assert_eq!(memory.missing(&[instance("i-1")]), []);
    }

    #[test]
    fn what_ec2_shows_as_ended_is_gone() {
        let memory = Memory::default();
        memory.launched(&instance("i-1"));
        let ended = CloudInstance {
            state: CloudRunnerState::Deleted,
            ..instance("i-1")
        };
        assert_eq!(memory.see(vec![ended]), []);
        assert_eq!(memory.missing(&[]), []);
    }

    #[test]
    fn what_was_ended_here_stays_hidden() {
        let memory = Memory::default();
        memory.launched(&instance("i-1"));
        memory.ended("i-1");
        assert_eq!(memory.see(vec![instance("i-1")]), []);
        assert_eq!(memory.missing(&[]), []);
        assert!(memory.named(&instance("i-1").name).is_none());
    }
}
