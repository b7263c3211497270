//! A cloud in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use jiff::Timestamp;
use runner_manager_conformance::Fault;
use runner_manager_core::{
    Capability, Cloud, CloudInstance, CloudRunnerState, Error, ErrorKind, ExchangeFile, Guest,
    GuestFile, GuestProbe, LaunchSpec, Leftover, NamePrefix, Result, RunnerName, StopMode,
    StopOutcome, Support,
};

use crate::mutant::Mutation;

const PAGE: usize = 10;

#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) name: RunnerName,
    pub(crate) native: u64,
    /// Whether it bears the manager's mark.
    pub(crate) marked: bool,
    pub(crate) state: CloudRunnerState,
    pub(crate) created_at: Timestamp,
    pub(crate) worker: bool,
}

/// A volume; of an instance, or left over.
#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) name: RunnerName,
    pub(crate) native: Option<u64>,
    pub(crate) created_at: Timestamp,
    /// Whether a planted bug hides it from lists.
    pub(crate) hidden: bool,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) instances: Vec<Instance>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) faults: Vec<(NamePrefix, Fault)>,
    pub(crate) list_calls: BTreeMap<String, usize>,
    pub(crate) serial: u64,
}

impl World {
    /// Whether a fault stands; one that hits once is used up.
    fn hit(&mut self, prefix: &NamePrefix, fault: Fault) -> bool {
        let found = self
            .faults
            .iter()
            .position(|(p, f)| p == prefix && *f == fault);
        let lasting = matches!(fault, Fault::List | Fault::Guest);
        if let (Some(at), false) = (found, lasting) {
            self.faults.remove(at);
        }
        found.is_some()
    }

    pub(crate) fn instance(&mut self, name: &RunnerName) -> Option<&mut Instance> {
        self.instances
            .iter_mut()
            .find(|i| i.marked && i.name == *name)
    }

    fn make(&mut self, name: &RunnerName) -> Instance {
        self.serial += 1;
        let instance = Instance {
            name: name.clone(),
            native: self.serial,
            marked: true,
            state: CloudRunnerState::Created,
            created_at: Timestamp::now(),
            worker: false,
        };
        self.instances.push(instance.clone());
        self.volume(name, Some(instance.native));
        instance
    }

    pub(crate) fn volume(&mut self, name: &RunnerName, native: Option<u64>) {
        self.volumes.push(Volume {
            name: name.clone(),
            native,
            created_at: Timestamp::now(),
            hidden: false,
        });
    }
}

#[derive(Clone)]
pub(crate) struct MemoryCloud {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) mutation: Option<Mutation>,
    capability: Capability,
}

fn refused(what: &'static str) -> Error {
    Error::new(ErrorKind::BadAnswer, what)
}

impl MemoryCloud {
    pub(crate) fn new(world: Arc<Mutex<World>>, mutation: Option<Mutation>) -> Self {
        Self {
            world,
            mutation,
            capability: Capability {
                jit_config: Support::Native,
                registration_token: Support::Native,
                guest: Support::Native,
                idle_stop: Support::Native,
                console: Support::Unsupported("memory has no console"),
                resource_limits: Support::Unsupported("memory has no limits"),
                support_services: Support::Unsupported("nothing runs in memory"),
                outlives_manager: Support::Native,
                max_instances: None,
                max_user_data_bytes: None,
            },
        }
    }

    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn show(&self, instance: &Instance) -> CloudInstance {
        let mut state = instance.state.clone();
        if self.has(Mutation::StoppedIsActive) && state == CloudRunnerState::Stopped {
            state = CloudRunnerState::Active;
        }
        CloudInstance {
            name: instance.name.clone(),
            native_id: instance.native.to_string(),
            state,
            created_at: self.born(instance.created_at),
            addresses: Vec::new(),
        }
    }

    fn born(&self, at: Timestamp) -> Timestamp {
        if self.has(Mutation::AgeIgnored) {
            Timestamp::UNIX_EPOCH
        } else {
            at
        }
    }
}

#[async_trait]
impl Cloud for MemoryCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        let (name, prefix) = (&spec.name, spec.name.prefix());
        if self.world().hit(prefix, Fault::Launch) {
            return Err(refused("the launch was refused"));
        }
        if self.has(Mutation::DroppedLaunchLeaks) {
            let mut world = self.world();
            world.volume(name, None);
            world.volumes.last_mut().unwrap().hidden = true;
        }
        tokio::task::yield_now().await;
        let looked = self.world().instance(name).cloned();
        if self.has(Mutation::LaunchRaces) {
            tokio::task::yield_now().await;
        }
        let instance = {
            let mut world = self.world();
            let now = world.instance(name).cloned();
            let known = if self.has(Mutation::LaunchRaces) {
                looked
            } else {
                now
            };
            match known {
                Some(known) if !self.has(Mutation::LaunchesTwice) => known,
                _ => world.make(name),
            }
        };
        tokio::task::yield_now().await;
        let (lost, hangs) = {
            let mut world = self.world();
            let lost = world.hit(prefix, Fault::LaunchAfterEffect);
            (lost, world.hit(prefix, Fault::LaunchHangs))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if lost {
            if self.has(Mutation::FailedLaunchLeaks) {
                let mut world = self.world();
                world.volume(name, None);
                world.volumes.last_mut().unwrap().hidden = true;
            }
            return Err(refused("the answer of the launch was lost"));
        }
        let mut world = self.world();
        if self.has(Mutation::DroppedLaunchLeaks) {
            world
                .volumes
                .retain(|volume| !(volume.hidden && volume.name == *name));
        }
        if let Some(found) = world.instance(name) {
            found.state = CloudRunnerState::Active;
        }
        Ok(self.show(&instance))
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        tokio::task::yield_now().await;
        let marked = |i: &&Instance| i.marked || self.has(Mutation::GetIgnoresMark);
        let world = self.world();
        let mut all = world.instances.iter().filter(marked);
        Ok(all.find(|i| i.name == *name).map(|i| self.show(i)))
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        tokio::task::yield_now().await;
        let mut world = self.world();
        *world.list_calls.entry(prefix.to_string()).or_default() += 1;
        if world.hit(prefix, Fault::List) {
            return Err(refused("the list was refused"));
        }
        let mine = |i: &&Instance| {
            let named = if self.has(Mutation::BarePrefix) {
                i.name.to_string().starts_with(prefix.as_str())
            } else {
                i.name.prefix() == prefix
            };
            named && (i.marked || self.has(Mutation::IgnoresMark))
        };
        let most = if self.has(Mutation::OnePage) {
            PAGE
        } else {
            usize::MAX
        };
        let listed = world.instances.iter().filter(mine).take(most);
        Ok(listed.map(|i| self.show(i)).collect())
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        tokio::task::yield_now().await;
        let mut world = self.world();
        let native: u64 = instance.native_id.parse().unwrap();
        if world.hit(instance.name.prefix(), Fault::Terminate) {
            if self.has(Mutation::TerminateLies) {
                return Ok(());
            }
            return Err(refused("the termination was refused"));
        }
        let before = world.instances.len();
        world.instances.retain(|i| i.native != native);
        if before == world.instances.len() && self.has(Mutation::TerminateTwiceFails) {
            return Err(refused("it is gone already"));
        }
        if self.has(Mutation::TerminateLeaks) {
            for volume in world
                .volumes
                .iter_mut()
                .filter(|v| v.native == Some(native))
            {
                volume.hidden = true;
            }
        } else {
            world.volumes.retain(|v| v.native != Some(native));
        }
        Ok(())
    }

    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        tokio::task::yield_now().await;
        if self.has(Mutation::LeftoversForgotten) {
            return Ok(Vec::new());
        }
        let world = self.world();
        let lives = |v: &Volume| world.instances.iter().any(|i| Some(i.native) == v.native);
        let mine = |v: &&Volume| {
            let named = v.name.prefix() == prefix || self.has(Mutation::LeftoversOfAll);
            named && !v.hidden && !lives(v)
        };
        let shown = |v: &Volume| Leftover {
            kind: "volume",
            id: v.name.to_string(),
            name: v.name.clone(),
            created_at: Some(self.born(v.created_at)),
        };
        Ok(world.volumes.iter().filter(mine).map(shown).collect())
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        self.world().volumes.retain(|v| v.name != leftover.name);
        Ok(())
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        let prefix = instance.name.prefix();
        if self.has(Mutation::ListsPerRunner) {
            let mut world = self.world();
            *world.list_calls.entry(prefix.to_string()).or_default() += 1;
        }
        let unreachable = self.world().hit(prefix, Fault::Guest);
        if unreachable && !self.has(Mutation::SilentIsDead) {
            return Err(refused("the guest could not be asked"));
        }
        Ok(Box::new(MemoryGuest {
            cloud: self.clone(),
            name: instance.name.clone(),
            dead: unreachable,
        }))
    }

    async fn console(&self, _: &CloudInstance) -> Result<Option<String>> {
        Ok(None)
    }
}

struct MemoryGuest {
    cloud: MemoryCloud,
    name: RunnerName,
    dead: bool,
}

#[async_trait]
impl Guest for MemoryGuest {
    async fn probe(&self) -> Result<GuestProbe> {
        let mut world = self.cloud.world();
        let worker = world.instance(&self.name).is_some_and(|i| i.worker);
        Ok(GuestProbe {
            installed: true,
            cloud_init: None,
            listener: !self.dead,
            worker: worker && !self.cloud.has(Mutation::JobUnseen),
        })
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        let mut world = self.cloud.world();
        let careless = self.cloud.has(Mutation::IdleStopKillsJobs);
        Ok(match world.instance(&self.name) {
            None => StopOutcome::NotRunning,
            Some(found) if found.worker && mode == StopMode::Idle && !careless => StopOutcome::Busy,
            Some(found) => {
                found.state = CloudRunnerState::Stopped;
                StopOutcome::Stopped
            }
        })
    }

    async fn read_file(&self, _: ExchangeFile) -> Result<GuestFile> {
        Ok(GuestFile::Absent)
    }
}
