//! What exists in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use runner_manager_conformance::{Exposure, Fault, Place, Planted, Received};
use runner_manager_core::{
    CloudInitStatus, CloudRunnerState, ExchangeFile, NamePrefix, RunnerName,
};

/// The native states of this cloud.
pub(crate) struct States;

impl States {
    /// Written down for the harness; the cloud has its own table.
    pub(crate) fn table() -> Vec<(&'static str, CloudRunnerState)> {
        vec![
            ("building", CloudRunnerState::Created),
            ("active", CloudRunnerState::Active),
            ("stopped", CloudRunnerState::Stopped),
            ("shutoff", CloudRunnerState::Stopped),
            ("failed", CloudRunnerState::Error),
            ("deleting", CloudRunnerState::Deleted),
            ("unknown", CloudRunnerState::Unknown),
            ("haunted", CloudRunnerState::Unexpected("haunted".into())),
        ]
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) name: RunnerName,
    pub(crate) id: u64,
    /// Whether it bears the manager's mark.
    pub(crate) marked: bool,
    /// The native state.
    pub(crate) native: &'static str,
    pub(crate) created_at: Timestamp,
    pub(crate) listener: bool,
    pub(crate) worker: bool,
    pub(crate) cloud_init: CloudInitStatus,
    pub(crate) files: HashMap<ExchangeFile, Planted>,
    pub(crate) received: Received,
}

impl Instance {
    fn new(name: &RunnerName, id: u64, native: &'static str) -> Self {
        let installed = Planted::Bytes(b"1700000000\n".to_vec());
        Self {
            name: name.clone(),
            id,
            marked: true,
            native,
            created_at: Timestamp::now(),
            listener: true,
            worker: false,
            cloud_init: CloudInitStatus::Running,
            files: HashMap::from([(ExchangeFile::Installed, installed)]),
            received: Received::default(),
        }
    }

    pub(crate) fn listens(&self) -> bool {
        self.native == "active" && self.listener
    }
}

/// A volume or a key; of an instance, or left over.
#[derive(Debug, Clone)]
pub(crate) struct Belonging {
    pub(crate) id: u64,
    pub(crate) kind: &'static str,
    pub(crate) name: RunnerName,
    pub(crate) of: Option<u64>,
    pub(crate) created_at: Timestamp,
    /// Whether a planted bug hides it from lists.
    pub(crate) hidden: bool,
}

/// How often the cloud was called about one prefix.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Calls {
    pub(crate) lists: usize,
    pub(crate) requests: usize,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) instances: Vec<Instance>,
    pub(crate) belongings: Vec<Belonging>,
    pub(crate) strangers: Vec<String>,
    pub(crate) killed_jobs: BTreeSet<RunnerName>,
    /// The names whose launch was refused once.
    pub(crate) spent: BTreeSet<RunnerName>,
    pub(crate) exposures: Vec<(RunnerName, Place, Exposure)>,
    faults: Vec<(NamePrefix, Fault)>,
    /// What lists show instead of the truth, by prefix.
    stale: BTreeMap<NamePrefix, Vec<Instance>>,
    calls: BTreeMap<NamePrefix, Calls>,
    serial: u64,
}

impl World {
    /// Whether a fault stands; one that hits once is used up.
    pub(crate) fn hit(&mut self, prefix: &NamePrefix, fault: Fault) -> bool {
        let found = self
            .faults
            .iter()
            .position(|(p, f)| p == prefix && *f == fault);
        let once = matches!(
            fault,
            Fault::Launch
                | Fault::LaunchMidway
                | Fault::LaunchAfterEffect
                | Fault::LaunchHangs
                | Fault::Terminate
                | Fault::TerminateMidway
                | Fault::TerminateAfterEffect
        );
        if let (Some(at), true) = (found, once) {
            self.faults.remove(at);
        }
        found.is_some()
    }

    pub(crate) fn plant(&mut self, prefix: &NamePrefix, fault: Fault) {
        if fault == Fault::ListStale {
            let now = self.of(prefix).cloned().collect();
            self.stale.insert(prefix.clone(), now);
        }
        self.faults.push((prefix.clone(), fault));
    }

    pub(crate) fn mend(&mut self, prefix: &NamePrefix) {
        self.faults.retain(|(p, _)| p != prefix);
        self.stale.remove(prefix);
        for instance in &mut self.instances {
            if instance.name.prefix() == prefix && instance.native != "stopped" {
                instance.native = "active";
            }
        }
    }

    fn of(&self, prefix: &NamePrefix) -> impl Iterator<Item = &Instance> {
        self.instances
            .iter()
            .filter(move |i| i.name.prefix() == prefix)
    }

    /// The instances as lists of a prefix show them.
    pub(crate) fn listed(&mut self, prefix: &NamePrefix) -> Vec<Instance> {
        let mut listed = match self.stale.get(prefix) {
            Some(stale) => stale.clone(),
            None => self.instances.clone(),
        };
        if self.hit(prefix, Fault::ListTruncated) {
            let half = listed.len() / 2;
            listed.truncate(half);
        }
        listed
    }

    pub(crate) fn call(&mut self, prefix: &NamePrefix) {
        self.calls.entry(prefix.clone()).or_default().requests += 1;
    }

    pub(crate) fn count_list(&mut self, prefix: &NamePrefix) {
        self.calls.entry(prefix.clone()).or_default().lists += 1;
    }

    pub(crate) fn calls(&self, prefix: &NamePrefix) -> Calls {
        self.calls.get(prefix).copied().unwrap_or_default()
    }

    /// The newest instance of a name that bears the mark.
    pub(crate) fn instance(&mut self, name: &RunnerName) -> Option<&mut Instance> {
        let named = self
            .instances
            .iter_mut()
            .filter(|i| i.marked && i.name == *name);
        named.max_by_key(|i| (i.created_at, i.id))
    }

    pub(crate) fn make(&mut self, received: Received, name: &RunnerName) -> Instance {
        self.serial += 1;
        let instance = Instance {
            received,
            ..Instance::new(name, self.serial, "building")
        };
        self.instances.push(instance.clone());
        self.belonging(name, Some(instance.id), "volumes");
        self.belonging(name, Some(instance.id), "keys");
        instance
    }

    /// An older instance of the same name.
    pub(crate) fn twin(&mut self, name: &RunnerName) -> Option<()> {
        let mut twin = self.instance(name)?.clone();
        self.serial += 1;
        twin.id = self.serial;
        twin.created_at = Timestamp::UNIX_EPOCH;
        self.belonging(name, Some(twin.id), "volumes");
        self.belonging(name, Some(twin.id), "keys");
        self.instances.push(twin);
        Some(())
    }

    /// An instance of somebody else, or a thing whose name is no runner's.
    pub(crate) fn stranger(&mut self, name: &str) {
        let Ok(name) = name.parse() else {
            self.strangers.push(name.to_owned());
            return;
        };
        let mut stranger = self.make(Received::default(), &name);
        self.belongings.retain(|b| b.of != Some(stranger.id));
        self.instances.retain(|i| i.id != stranger.id);
        (stranger.marked, stranger.native) = (false, "stopped");
        stranger.created_at = Timestamp::UNIX_EPOCH;
        self.instances.push(stranger);
    }

    /// What a cloud shows that takes a name for a runner's when it begins like one.
    pub(crate) fn odd(&self, prefix: &NamePrefix) -> Vec<Instance> {
        let parse = |name: &String| {
            let id = name.strip_prefix(prefix.as_str())?.strip_prefix('-')?;
            let id = id.get(..12)?.parse().ok()?;
            Some(prefix.runner_name(&id))
        };
        let names = self.strangers.iter().filter_map(parse);
        names
            .map(|name| Instance::new(&name, 0, "stopped"))
            .collect()
    }

    /// Removes the strangers whose names begin with this one.
    pub(crate) fn lose_odd(&mut self, name: &RunnerName) {
        let name = name.to_string();
        self.strangers
            .retain(|stranger| !stranger.starts_with(&name));
    }

    /// Whether it is still there; it is then removed.
    pub(crate) fn take_stranger(&mut self, name: &str) -> bool {
        let before = self.instances.len() + self.strangers.len();
        self.strangers.retain(|stranger| stranger != name);
        self.instances
            .retain(|i| i.marked || i.name.to_string() != name);
        before != self.instances.len() + self.strangers.len()
    }

    pub(crate) fn belonging(&mut self, name: &RunnerName, of: Option<u64>, kind: &'static str) {
        self.serial += 1;
        self.belongings.push(Belonging {
            id: self.serial,
            kind,
            name: name.clone(),
            of,
            created_at: Timestamp::now(),
            hidden: false,
        });
    }

    pub(crate) fn expose(&mut self, name: &RunnerName, at: Place, text: &str) {
        let (place, text) = ("memory".to_owned(), text.as_bytes().to_vec());
        let exposure = Exposure { place, text };
        self.exposures.push((name.clone(), at, exposure));
    }

    pub(crate) fn exposed(&self, name: &RunnerName, at: Place) -> Vec<Exposure> {
        let fits = |(of, place, _): &&(RunnerName, Place, Exposure)| of == name && *place == at;
        let found = self.exposures.iter().filter(fits);
        found.map(|(_, _, exposure)| exposure.clone()).collect()
    }
}
