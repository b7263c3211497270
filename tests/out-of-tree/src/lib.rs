//! A backend that keeps its instances on a shelf in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use runner_manager_core::{
    Capability, Cloud, CloudInstance, CloudRunnerState, Error, ErrorKind, ExchangeFile, Guest,
    GuestFile, GuestProbe, LaunchSpec, Leftover, NamePrefix, Result, RunnerName, StopMode,
    StopOutcome, Support,
};

/// One instance on the shelf.
#[derive(Debug, Clone)]
pub struct Item {
    /// Whether it runs.
    pub runs: bool,
    /// Whether a job runs on it.
    pub job: bool,
    /// Whether its runner listens.
    pub listens: bool,
    /// What its runner left for the manager.
    pub files: HashMap<ExchangeFile, Vec<u8>>,
    /// When it was put there.
    pub since: Timestamp,
}

/// The shelf. Clones share it.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<BTreeMap<RunnerName, Item>>>);

impl Shelf {
    /// What is on it.
    pub fn items(&self) -> MutexGuard<'_, BTreeMap<RunnerName, Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cloud: a few plain operations. `HostedRunners` makes the contract of it.
pub struct ShelfCloud {
    shelf: Shelf,
    capability: Capability,
}

impl ShelfCloud {
    /// A cloud on a shelf.
    #[must_use]
    pub fn new(shelf: Shelf) -> Self {
        Self {
            shelf,
            capability: Capability {
                jit_config: Support::Native,
                registration_token: Support::Unsupported("nothing here runs `config.sh`"),
                claim: Support::Unsupported("nothing boots on a shelf"),
                guest: Support::Native,
                cloud_init: Support::Unsupported("nothing boots on a shelf"),
                idle_stop: Support::Native,
                shell: Support::Unsupported("nothing runs on a shelf"),
                console: Support::Unsupported("a shelf has no console"),
                resource_limits: Support::Unsupported("a shelf has no limits"),
                support_services: Support::Unsupported("nothing runs on a shelf"),
                outlives_manager: Support::Unsupported("memory ends with the process"),
                max_instances: None,
                max_user_data_bytes: None,
            },
        }
    }
}

fn show(name: &RunnerName, item: &Item) -> CloudInstance {
    CloudInstance {
        name: name.clone(),
        native_id: format!("shelf/{name}"),
        state: if item.runs {
            CloudRunnerState::Active
        } else {
            CloudRunnerState::Stopped
        },
        created_at: item.since,
        addresses: Vec::new(),
    }
}

#[async_trait]
impl Cloud for ShelfCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        let mut items = self.shelf.items();
        let item = items.entry(spec.name.clone()).or_insert_with(|| Item {
            runs: true,
            job: false,
            listens: true,
            files: HashMap::from([(ExchangeFile::Installed, b"1700000000".to_vec())]),
            since: Timestamp::now(),
        });
        Ok(show(&spec.name, item))
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        Ok(self.shelf.items().get(name).map(|item| show(name, item)))
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        let items = self.shelf.items();
        let mine = items.iter().filter(|(name, _)| name.prefix() == prefix);
        Ok(mine.map(|(name, item)| show(name, item)).collect())
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        self.shelf.items().remove(&instance.name);
        Ok(())
    }

    async fn leftovers(&self, _: &NamePrefix) -> Result<Vec<Leftover>> {
        // An instance is one item: nothing of it can be left without it.
        Ok(Vec::new())
    }

    async fn remove_leftover(&self, _: &Leftover) -> Result<()> {
        Ok(())
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        Ok(Box::new(ShelfGuest {
            shelf: self.shelf.clone(),
            name: instance.name.clone(),
        }))
    }

    async fn console(&self, _: &CloudInstance) -> Result<Option<String>> {
        Ok(None)
    }
}

struct ShelfGuest {
    shelf: Shelf,
    name: RunnerName,
}

#[async_trait]
impl Guest for ShelfGuest {
    async fn probe(&self) -> Result<GuestProbe> {
        let items = self.shelf.items();
        let item = items
            .get(&self.name)
            .ok_or_else(|| Error::new(ErrorKind::Unreachable, "the instance is gone"))?;
        Ok(GuestProbe {
            installed: item.files.contains_key(&ExchangeFile::Installed),
            cloud_init: None,
            listener: item.runs && item.listens,
            worker: item.job,
        })
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        // One lock around check and stop: no job begins between them.
        Ok(match self.shelf.items().get_mut(&self.name) {
            None => StopOutcome::NotRunning,
            Some(item) if item.job && mode == StopMode::Idle => StopOutcome::Busy,
            Some(item) => {
                (item.runs, item.job) = (false, false);
                StopOutcome::Stopped
            }
        })
    }

    async fn read_file(&self, file: ExchangeFile) -> Result<GuestFile> {
        let items = self.shelf.items();
        let bytes = items.get(&self.name).and_then(|item| item.files.get(&file));
        Ok(match bytes {
            None => GuestFile::Absent,
            Some(bytes) if bytes.len() > ExchangeFile::MAX_BYTES => {
                GuestFile::Refused("is larger than 1024 bytes".into())
            }
            Some(bytes) => GuestFile::Bytes(bytes.clone()),
        })
    }
}
