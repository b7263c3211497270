//! The way into an instance in memory.

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
        if world.hit(prefix, Fault::GuestUnreachable) {
            let message = "the connection was refused";
            return Err(Error::new(ErrorKind::Unreachable, message));
        }
        let dead = world.hit(prefix, Fault::Guest);
        if dead && !cloud.has(Mutation::SilentIsDead) {
            return Err(refused("the guest could not be asked"));
        }
        drop(world);
        Ok(Box::new(Self {
            cloud: cloud.clone(),
            name: instance.name.clone(),
            dead,
        }))
    }

    async fn answers(&self) {
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
            installed: matches!(
                instance.files.get(&ExchangeFile::Installed),
                Some(Planted::Bytes(_))
            ),
            cloud_init: Some(instance.cloud_init),
            listener: instance.listener && !self.dead,
            worker: instance.worker && !self.cloud.has(Mutation::JobUnseen),
        })
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        self.answers().await;
        let mut world = self.cloud.world();
        let careless = self.cloud.has(Mutation::IdleStopKillsJobs);
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
        let mut world = self.cloud.world();
        let planted = world
            .instance(&self.name)
            .and_then(|i| i.files.get(&file).cloned());
        let refuse = |reason: &str| GuestFile::Refused(reason.to_owned());
        Ok(match planted {
            None | Some(Planted::Nothing) => GuestFile::Absent,
            Some(Planted::Bytes(bytes)) if bytes.len() > ExchangeFile::MAX_BYTES => {
                refuse("is larger than 1024 bytes")
            }
            Some(Planted::Bytes(bytes)) => GuestFile::Bytes(bytes),
            Some(Planted::Symlink) => refuse("is a symbolic link"),
            Some(Planted::Endless) => refuse("is not a regular file"),
        })
    }
}
