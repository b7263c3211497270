//! A cloud whose machines do nothing: it notes what each boots with, and where it is shown.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use runner_manager_core::{
    Capability, Clock, Cloud, CloudInstance, CloudRunnerState, Error, ErrorKind, ExchangeFile,
    Guest, GuestFile, GuestProbe, LaunchSpec, Leftover, ManualClock, NamePrefix, Result,
    RunnerCredential, RunnerName, Secret, StopMode, StopOutcome, Support,
};
use tokio::sync::watch;
use url::Url;

/// What one machine boots with.
#[derive(Clone)]
pub(crate) struct Booted {
    pub(crate) url: Url,
    pub(crate) nonce: Secret,
}

/// What a test sees of the cloud, and changes on it.
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) booted: watch::Sender<BTreeMap<RunnerName, Booted>>,
    /// The cloud answers nothing.
    pub(crate) is_down: AtomicBool,
    /// Who looks into a machine hears nothing, as while it boots behind a firewall.
    pub(crate) is_deaf: AtomicBool,
    live: Mutex<BTreeMap<RunnerName, CloudInstance>>,
}

impl World {
    pub(crate) fn new(clock: Arc<ManualClock>, addresses: Vec<IpAddr>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            addresses,
            booted: watch::Sender::default(),
            is_down: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
            live: Mutex::default(),
        })
    }
}

pub(crate) struct Machines {
    world: Arc<World>,
    capability: Capability,
}

impl Machines {
    pub(crate) fn new(world: Arc<World>) -> Self {
        let no = Support::Unsupported("nothing runs on these machines");
        Self {
            world,
            capability: Capability {
                jit_config: Support::Native,
                registration_token: no,
                claim: Support::Native,
                guest: Support::Native,
                cloud_init: no,
                idle_stop: Support::Native,
                shell: no,
                console: no,
                resource_limits: no,
                support_services: Support::Native,
                outlives_manager: no,
                max_instances: None,
                max_user_data_bytes: None,
            },
        }
    }

    fn up(&self) -> Result<()> {
        if self.world.is_down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unreachable, "the cloud is down"));
        }
        Ok(())
    }
}

#[async_trait]
impl Cloud for Machines {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        self.up()?;
        let RunnerCredential::Claim { url, nonce } = spec.credential.clone() else {
            panic!("a machine got the credential itself");
        };
        let instance = CloudInstance {
            name: spec.name.clone(),
            native_id: spec.name.to_string(),
            state: CloudRunnerState::Active,
            created_at: self.world.clock.now(),
            addresses: self.world.addresses.clone(),
        };
        let name = || spec.name.clone();
        let mut live = self.world.live.lock().unwrap();
        live.insert(name(), instance.clone());
        let booted = Booted { url, nonce };
        self.world.booted.send_modify(|all| {
            all.insert(name(), booted);
        });
        Ok(instance)
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        self.up()?;
        Ok(self.world.live.lock().unwrap().get(name).cloned())
    }

    async fn list(&self, _: &NamePrefix) -> Result<Vec<CloudInstance>> {
        self.up()?;
        Ok(self.world.live.lock().unwrap().values().cloned().collect())
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        self.up()?;
        self.world.live.lock().unwrap().remove(&instance.name);
        Ok(())
    }

    async fn leftovers(&self, _: &NamePrefix) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }

    async fn remove_leftover(&self, _: &Leftover) -> Result<()> {
        Ok(())
    }

    async fn guest(&self, _: &CloudInstance) -> Result<Box<dyn Guest>> {
        Ok(Box::new(Inside(self.world.clone())))
    }

    async fn console(&self, _: &CloudInstance) -> Result<Option<String>> {
        Ok(None)
    }
}

struct Inside(Arc<World>);

#[async_trait]
impl Guest for Inside {
    async fn probe(&self) -> Result<GuestProbe> {
        if self.0.is_deaf.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(GuestProbe {
            installed: false,
            cloud_init: None,
            listener: false,
            worker: false,
        })
    }

    async fn stop_runner(&self, _: StopMode) -> Result<StopOutcome> {
        Ok(StopOutcome::NotRunning)
    }

    async fn read_file(&self, _: ExchangeFile) -> Result<GuestFile> {
        Ok(GuestFile::Absent)
    }
}
