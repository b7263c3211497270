//! The harness of the cloud in memory.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_conformance::{
    Cannot, Counts, Did, Exposure, Fault, Harness, JobFate, Place, Planted, Received, Seen,
};
use runner_manager_core::{
    BackendContext, CloudInitStatus, CloudRunnerState, Connected, CreateRunner, ExchangeFile,
    GitHubPath, GitHubRunnerConfig, HostedRunners, InstanceId, Labels, NamePrefix, Result,
    RunnerCredential, RunnerName, Secret, SupportServiceConfig,
};

use crate::cloud::{MemoryCloud, PAGE};
use crate::mutant::Mutant;
use crate::mutation::{Mutation, Variant};
use crate::world::{Instance, States, World};

pub(crate) struct MemoryHarness {
    world: Arc<Mutex<World>>,
    variant: Variant,
    mutation: Option<Mutation>,
}

const GONE: Cannot = Cannot("there is no such instance");

impl MemoryHarness {
    pub(crate) fn new(variant: Variant, mutation: Option<Mutation>) -> Self {
        Self {
            world: Arc::default(),
            variant,
            mutation,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn change<T>(&self, name: &RunnerName, change: impl FnOnce(&mut Instance) -> T) -> Seen<T> {
        self.world().instance(name).map(change).ok_or(GONE)
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    fn scheme(&self) -> &'static str {
        "memory"
    }

    async fn manager(&self, context: BackendContext) -> Result<Connected> {
        let world = self.world.clone();
        let cloud = MemoryCloud::new(world, &context, self.variant, self.mutation);
        let mut timings = context.timings;
        let never = Duration::from_secs(3_600);
        match self.mutation {
            Some(Mutation::NoLaunchDeadline) => timings.launch_timeout = never,
            Some(Mutation::NoGuestDeadline) => timings.guest_timeout = never,
            Some(Mutation::NoCallDeadline) => timings.call_timeout = never,
            _ => {}
        }
        let inner = HostedRunners::new(cloud, context.prefix, timings, context.clock);
        Ok(Arc::new(Mutant {
            inner: Arc::new(inner),
            mutation: self.mutation,
        }))
    }

    fn request(&self, id: InstanceId) -> CreateRunner {
        let credential = if self.variant == Variant::NoGuest {
            RunnerCredential::RegistrationToken {
                url: "https://github.com/octo".parse().unwrap(),
                token: Secret::new("T"),
            }
        } else {
            RunnerCredential::JitConfig(Secret::new("c2VjcmV0"))
        };
        CreateRunner {
            id,
            credential,
            github: GitHubRunnerConfig {
                github_path: GitHubPath::parse("octo", None).unwrap(),
                labels: Labels::parse(["linux"]).unwrap(),
            },
            support: SupportServiceConfig::default(),
        }
    }

    async fn reach(&self, _: &NamePrefix, _: u16) -> Seen<String> {
        Err(Cannot("nothing boots in memory, and so nothing claims"))
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let world = self.world();
        let instances = world.instances.iter().filter(|i| i.name.prefix() == prefix);
        let mut counts = Counts::from([
            ("instances", instances.count()),
            ("volumes", 0),
            ("keys", 0),
        ]);
        for belonging in world
            .belongings
            .iter()
            .filter(|b| b.name.prefix() == prefix)
        {
            *counts.entry(belonging.kind).or_default() += 1;
        }
        counts
    }

    fn list_calls(&self, prefix: &NamePrefix) -> Seen<usize> {
        Ok(self.world().calls(prefix).lists)
    }

    fn requests(&self, prefix: &NamePrefix) -> Seen<usize> {
        Ok(self.world().calls(prefix).requests)
    }

    fn page_size(&self) -> Option<usize> {
        Some(PAGE)
    }

    async fn received(&self, name: &RunnerName) -> Seen<Received> {
        self.change(name, |instance| instance.received.clone())
    }

    async fn exposed(&self, name: &RunnerName, place: Place) -> Seen<Vec<Exposure>> {
        Ok(self.world().exposed(name, place))
    }

    async fn offer_job(&self, name: &RunnerName) -> Did {
        if let Some(instance) = self.world().instance(name)
            && instance.listens()
        {
            instance.worker = true;
        }
        Ok(())
    }

    async fn job_fate(&self, name: &RunnerName) -> JobFate {
        let mut world = self.world();
        let began = world.killed_jobs.contains(name);
        match world.instance(name) {
            Some(instance) if instance.worker => JobFate::Runs,
            _ if began => JobFate::Killed,
            _ => JobFate::NotBegun,
        }
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        self.change(name, |instance| instance.native = "stopped")
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        self.world().instances.retain(|i| i.name != *name);
        Ok(())
    }

    async fn end_runner(&self, name: &RunnerName) -> Did {
        self.change(name, |instance| instance.listener = false)
    }

    fn native_states(&self) -> Vec<(&'static str, CloudRunnerState)> {
        States::table()
    }

    async fn force_state(&self, name: &RunnerName, native: &'static str) -> Did {
        self.change(name, |instance| instance.native = native)
    }

    async fn make_twin(&self, name: &RunnerName) -> Did {
        self.world().twin(name).ok_or(GONE)
    }

    async fn make_stranger(&self, name: &str) -> Did {
        self.world().stranger(name);
        Ok(())
    }

    async fn take_stranger(&self, name: &str) -> bool {
        self.world().take_stranger(name)
    }

    fn leftover_kinds(&self) -> &'static [&'static str] {
        &["volumes", "keys"]
    }

    async fn leave_leftover(&self, name: &RunnerName, kind: &'static str) -> Did {
        self.world().belonging(name, None, kind);
        Ok(())
    }

    async fn set_cloud_init(&self, name: &RunnerName, status: CloudInitStatus) -> Did {
        self.change(name, |instance| instance.cloud_init = status)
    }

    async fn put_file(&self, name: &RunnerName, file: ExchangeFile, what: Planted) -> Did {
        self.change(name, |instance| {
            instance.files.insert(file, what);
        })
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        self.world().plant(prefix, fault);
        Ok(())
    }

    async fn mend(&self, prefix: &NamePrefix) {
        self.world().mend(prefix);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(1_500)
    }

    fn window(&self) -> Duration {
        Duration::from_millis(300)
    }
}
