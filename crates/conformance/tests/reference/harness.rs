//! The harness of the cloud in memory.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_conformance::{Counts, Did, Fault, Harness};
use runner_manager_core::{
    CloudRunnerState, Connected, CreateRunner, GitHubPath, GitHubRunnerConfig, HostedRunners,
    InstanceId, Label, Labels, NamePrefix, Result, RunnerCredential, RunnerName, Secret,
    SupportServiceConfig, SystemClock, Timings,
};

use crate::cloud::{Instance, MemoryCloud, World};
use crate::mutant::{Mutant, Mutation};

pub(crate) struct MemoryHarness {
    world: Arc<Mutex<World>>,
    mutation: Option<Mutation>,
}

impl MemoryHarness {
    pub(crate) fn new(mutation: Option<Mutation>) -> Self {
        Self {
            world: Arc::default(),
            mutation,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn change(&self, name: &RunnerName, change: impl FnOnce(&mut Instance)) -> Did {
        match self.world().instance(name) {
            Some(instance) => {
                change(instance);
                Did::Done
            }
            None => Did::Cannot("there is no such instance"),
        }
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    fn scheme(&self) -> &'static str {
        "memory"
    }

    async fn manager(&self, prefix: &NamePrefix, timings: &Timings) -> Result<Connected> {
        let cloud = MemoryCloud::new(self.world.clone(), self.mutation);
        let clock = Arc::new(SystemClock);
        let inner = HostedRunners::new(cloud, prefix.clone(), timings.clone(), clock);
        Ok(Arc::new(Mutant {
            inner: Arc::new(inner),
            mutation: self.mutation,
        }))
    }

    fn request(&self, id: InstanceId) -> CreateRunner {
        CreateRunner {
            id,
            credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
            github: GitHubRunnerConfig {
                github_path: GitHubPath::parse("octo", None).unwrap(),
                labels: Labels::new(vec![Label::new("linux").unwrap()]).unwrap(),
            },
            support: SupportServiceConfig::default(),
        }
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let world = self.world();
        let instances = world.instances.iter().filter(|i| i.name.prefix() == prefix);
        let volumes = world.volumes.iter().filter(|v| v.name.prefix() == prefix);
        Counts::from([
            ("instances", instances.count()),
            ("volumes", volumes.count()),
        ])
    }

    async fn start_job(&self, name: &RunnerName) -> Did {
        self.change(name, |instance| instance.worker = true)
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        self.change(name, |instance| instance.state = CloudRunnerState::Stopped)
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        self.world().instances.retain(|i| i.name != *name);
        Did::Done
    }

    async fn leave_leftover(&self, name: &RunnerName) -> Did {
        self.world().volume(name, None);
        Did::Done
    }

    async fn make_stranger(&self, name: &RunnerName) -> Did {
        let mut world = self.world();
        world.serial += 1;
        let stranger = Instance {
            name: name.clone(),
            native: world.serial,
            marked: false,
            state: CloudRunnerState::Stopped,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            worker: false,
        };
        world.instances.push(stranger);
        Did::Done
    }

    async fn take_stranger(&self, name: &RunnerName) -> bool {
        let mut world = self.world();
        let before = world.instances.len();
        world.instances.retain(|i| i.marked || i.name != *name);
        before != world.instances.len()
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        self.world().faults.push((prefix.clone(), fault));
        Did::Done
    }

    async fn mend(&self, prefix: &NamePrefix) {
        self.world().faults.retain(|(p, _)| p != prefix);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(500)
    }

    fn list_calls(&self, prefix: &NamePrefix) -> Option<usize> {
        Some(
            self.world()
                .list_calls
                .get(prefix.as_str())
                .copied()
                .unwrap_or(0),
        )
    }
}
