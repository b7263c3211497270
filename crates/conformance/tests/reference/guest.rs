//! The way into an instance in memory.

use std::time::Duration;

use async_trait::async_trait;
use runner_manager_conformance::{Fault, Planted};
use runner_manager_core::{
    CloudInstance, Error, ErrorKind, ExchangeFile, Guest, GuestFile, GuestProbe, Result,
    RunnerName, StopMode, StopOutcome,
};

use crate::cloud::{MemoryCloud, refused};
use crate::mutation::Mutation;

pub(crate) struct MemoryGuest {
    cloud: MemoryCloud,
    name: RunnerName,
    dead: bool,
}

impl MemoryGuest {
    pub(crate) fn open(cloud: &MemoryCloud, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        let prefix = instance.name.prefix();
        let mut world = cloud.world();
        if cloud.has(Mutation::ListsPerRunner) {
            world.count_list(prefix);
        }
        let unreachable = world.hit(prefix, Fault::GuestUnreachable);
        let hangs = world.hit(prefix, Fault::GuestHangs);
        if unreachable && !cloud.has(Mutation::BootingIsDead) {
            let message = "the connection was refused";
            return Err(Error::new(ErrorKind::Unreachable, message));
        }
        let silent = world.hit(prefix, Fault::Guest);
        if silent && !cloud.has(Mutation::SilentIsDead) {
            return Err(refused("the guest could not be asked"));
        }
        let dead = silent || unreachable || (hangs && cloud.has(Mutation::HangingIsDead));
        drop(world);
        Ok(Box::new(Self {
            cloud: cloud.clone(),
            name: instance.name.clone(),
            dead,
        }))
    }

    async fn answers(&self) {
        if self.dead {
            return;
        }
        let hangs = self
            .cloud
            .world()
            .hit(self.name.prefix(), Fault::GuestHangs);
        if hangs {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Guest for MemoryGuest {
    async fn probe(&self) -> Result<GuestProbe> {
        self.answers().await;
        let mut world = self.cloud.world();
        let gone = || Error::new(ErrorKind::Unreachable, "the instance is gone");
        let instance = world.instance(&self.name).ok_or_else(gone)?;
        Ok(GuestProbe {
            installed: self.cloud.has(Mutation::InstalledIgnored)
                || matches!(
                    instance.files.get(&ExchangeFile::Installed),
                    Some(Planted::Bytes(_))
                ),
            cloud_init: Some(instance.cloud_init)
                .filter(|_| !self.cloud.has(Mutation::CloudInitIgnored)),
            listener: (instance.listener || self.cloud.has(Mutation::EndedIsHealthy)) && !self.dead,
            worker: instance.worker && !self.cloud.has(Mutation::JobUnseen),
        })
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        self.answers().await;
        let mut careless = self.cloud.has(Mutation::IdleStopKillsJobs);
        if self.cloud.has(Mutation::IdleStopRaces) {
            careless = !self
                .cloud
                .world()
                .instance(&self.name)
                .is_some_and(|i| i.worker);
            tokio::time::sleep(Duration::from_millis(12)).await;
        }
        let mut world = self.cloud.world();
        let Some(found) = world.instance(&self.name) else {
            return Ok(StopOutcome::NotRunning);
        };
        if found.worker && mode == StopMode::Idle && !careless {
            return Ok(StopOutcome::Busy);
        }
        let killed = found.worker;
        (found.native, found.worker, found.listener) = ("stopped", false, false);
        if killed {
            world.killed_jobs.insert(self.name.clone());
        }
        Ok(StopOutcome::Stopped)
    }

    async fn read_file(&self, file: ExchangeFile) -> Result<GuestFile> {
        self.answers().await;
        let planted = {
            let mut world = self.cloud.world();
            let instance = world.instance(&self.name);
            instance.and_then(|i| i.files.get(&file).cloned())
        };
        self.content(file, planted.unwrap_or(Planted::Nothing))
            .await
    }
}

impl MemoryGuest {
    async fn content(&self, file: ExchangeFile, planted: Planted) -> Result<GuestFile> {
        let has = |mutation| self.cloud.has(mutation);
        let most = ExchangeFile::MAX_BYTES - usize::from(has(Mutation::LimitIsOneLess));
        let refuse = |reason: &str| Ok(GuestFile::Refused(reason.to_owned()));
        match planted {
            Planted::Bytes(_) if file == ExchangeFile::PostJob && has(Mutation::PostJobIgnored) => {
                Ok(GuestFile::Absent)
            }
            Planted::Nothing if has(Mutation::MissingIsFailure) => refuse("is not there"),
            Planted::Nothing => Ok(GuestFile::Absent),
            Planted::Bytes(mut bytes) if bytes.len() > most => {
                bytes.truncate(most);
                if has(Mutation::OversizedIsCut) {
                    Ok(GuestFile::Bytes(bytes))
                } else {
                    refuse("is larger than 1024 bytes")
                }
            }
            Planted::Bytes(bytes) => self.translated(bytes),
            Planted::Symlink if has(Mutation::LinksFollowed) => {
                Ok(GuestFile::Bytes(b"1700000000".to_vec()))
            }
            Planted::Symlink => refuse("is a symbolic link"),
            Planted::Endless if has(Mutation::EndlessIsRead) => std::future::pending().await,
            Planted::Endless => refuse("is not a regular file"),
        }
    }

    /// The bytes, with the words changed that a planted bug does not know.
    fn translated(&self, bytes: Vec<u8>) -> Result<GuestFile> {
        let text = String::from_utf8_lossy(&bytes);
        if self.cloud.has(Mutation::PolicyIsUnknown) && text.contains("repo-policy") {
            return Ok(GuestFile::Refused("speaks of a policy".to_owned()));
        }
        if self.cloud.has(Mutation::AbnormalIsNormal) {
            let text = text.replace("abnormal", "normal");
            return Ok(GuestFile::Bytes(text.into_bytes()));
        }
        Ok(GuestFile::Bytes(bytes))
    }
}
