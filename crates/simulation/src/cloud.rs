//! A cloud of simulated machines, below the contract's own rules.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt;
use runner_manager_core::{
    Capability, Cloud, CloudInstance, CloudRunnerState, Effect, Error, ErrorKind, ExchangeFile,
    Guest, GuestFile, GuestProbe, LaunchSpec, Leftover, NamePrefix, Result, Retry,
    RunnerCredential, RunnerName, StopMode, StopOutcome, Support,
};
use runner_manager_github_sim::InProcess;

use crate::world::{Machine, Phase, World};

pub(crate) struct SimulatedCloud {
    world: Arc<World>,
    pool: usize,
    capability: Capability,
}

impl SimulatedCloud {
    pub(crate) fn new(world: Arc<World>, pool: usize) -> Self {
        Self {
            world,
            pool,
            capability: Capability {
                jit_config: Support::Native,
                registration_token: Support::Unsupported("a simulated machine takes JIT configs"),
                guest: Support::Native,
                cloud_init: Support::Unsupported("a simulated machine has no cloud-init"),
                idle_stop: Support::Native,
                shell: Support::Unsupported("a simulated machine has no shell"),
                claim: Support::Unsupported("a simulated machine claims nothing"),
                console: Support::Native,
                resource_limits: Support::Unsupported("a simulated machine has no resources"),
                support_services: Support::Unsupported("a simulated machine has no services"),
                outlives_manager: Support::Native,
                max_instances: None,
                max_user_data_bytes: None,
            },
        }
    }

    /// The way to the cloud, which may fail without effect.
    async fn call(&self, milliseconds: std::ops::Range<u64>) -> Result<()> {
        self.world.step().await;
        self.world.lag(milliseconds).await;
        if self
            .world
            .strikes(&mut self.world.state(), |f| f.cloud_error)
        {
            return Err(
                Error::new(ErrorKind::Unreachable, "the simulated cloud fails")
                    .with_retry(Retry::After(Duration::from_secs(1))),
            );
        }
        Ok(())
    }

    /// The way back, on which the answer may be lost.
    async fn answer<T>(&self, answer: T) -> Result<T> {
        self.world.step().await;
        if self
            .world
            .strikes(&mut self.world.state(), |f| f.cloud_unanswered)
        {
            return Err(
                Error::new(ErrorKind::TimedOut, "the simulated answer is lost")
                    .with_effect(Effect::Unknown),
            );
        }
        Ok(answer)
    }

    fn machine(&self, name: &RunnerName) -> Option<Machine> {
        self.world.state().clouds[self.pool].get(name).cloned()
    }
}

fn show(name: &RunnerName, machine: &Machine) -> CloudInstance {
    CloudInstance {
        name: name.clone(),
        native_id: name.to_string(),
        state: match machine.phase {
            Phase::Dead => CloudRunnerState::Error,
            _ => CloudRunnerState::Active,
        },
        created_at: machine.created_at,
        addresses: Vec::new(),
    }
}

#[async_trait]
impl Cloud for SimulatedCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        self.call(200..3_000).await?;
        if self
            .world
            .strikes(&mut self.world.state(), |f| f.no_capacity)
        {
            return Err(
                Error::new(ErrorKind::NoCapacity, "the simulated cloud is full")
                    .with_retry(Retry::After(Duration::from_secs(15))),
            );
        }
        let RunnerCredential::JitConfig(config) = &spec.credential else {
            return Err(Error::new(ErrorKind::Unsupported, "only JIT configs"));
        };
        let runner = InProcess::runner_of(config.expose()).unwrap_or(0);
        let machine = self.world.make_machine(self.pool, &spec.name, runner);
        let answer = self.answer(show(&spec.name, &machine)).await;
        if answer.is_err() && self.world.state().rng.random_bool(0.5) {
            // Its runner works or waits by the time the error is known.
            let boot = self.world.plan.boot.as_secs() * 1_000;
            self.world.lag(boot + 1_000..boot + 20_000).await;
        }
        if answer.is_err() {
            self.world.doubt(self.pool, &spec.name);
        }
        answer
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        self.call(20..200).await?;
        let found = self.machine(name);
        self.answer(found.map(|machine| show(name, &machine))).await
    }

    async fn list(&self, _prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        self.call(20..500).await?;
        let all = {
            let mut state = self.world.state();
            let machines = state.clouds[self.pool].iter();
            let mut all: Vec<CloudInstance> = machines
                .map(|(name, machine)| show(name, machine))
                .collect();
            if self.world.strikes(&mut state, |f| f.list_incomplete) {
                all.retain(|_| state.rng.random_bool(0.5));
            }
            all
        };
        self.answer(all).await
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        self.world.tempt(self.pool, &instance.name);
        self.call(100..2_000).await?;
        self.world.end_machine(self.pool, &instance.name);
        self.answer(()).await
    }

    async fn leftovers(&self, _prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }

    async fn remove_leftover(&self, _leftover: &Leftover) -> Result<()> {
        Ok(())
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        Ok(Box::new(SimulatedGuest {
            world: self.world.clone(),
            pool: self.pool,
            name: instance.name.clone(),
        }))
    }

    async fn console(&self, _instance: &CloudInstance) -> Result<Option<String>> {
        Ok(Some("a simulated console".into()))
    }
}

struct SimulatedGuest {
    world: Arc<World>,
    pool: usize,
    name: RunnerName,
}

impl SimulatedGuest {
    fn phase(&self) -> Result<Phase> {
        let mut state = self.world.state();
        if self.world.strikes(&mut state, |f| f.guest_silent) {
            return Err(Error::new(
                ErrorKind::TimedOut,
                "the simulated guest is silent",
            ));
        }
        let found = state.clouds[self.pool].get(&self.name);
        let gone = || Error::new(ErrorKind::Unreachable, "the simulated guest is gone");
        found.map(|machine| machine.phase).ok_or_else(gone)
    }
}

#[async_trait]
impl Guest for SimulatedGuest {
    async fn probe(&self) -> Result<GuestProbe> {
        let phase = self.phase()?;
        Ok(GuestProbe {
            installed: phase != Phase::Booting,
            cloud_init: None,
            listener: matches!(phase, Phase::Listening | Phase::Working(_)),
            worker: matches!(phase, Phase::Working(_)),
        })
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        Ok(match (self.phase()?, mode) {
            (Phase::Working(_), StopMode::Idle) => StopOutcome::Busy,
            (Phase::Working(_) | Phase::Listening, _) => {
                self.world.stop_listener(self.pool, &self.name);
                StopOutcome::Stopped
            }
            _ => StopOutcome::NotRunning,
        })
    }

    async fn read_file(&self, _file: ExchangeFile) -> Result<GuestFile> {
        Ok(GuestFile::Absent)
    }
}
