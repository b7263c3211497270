//! One work folder on this machine, and what is seen of the runners in it.

use std::path::{Path, PathBuf};

use runner_manager_core::{Capability, CloudInstance, ErrorKind, Result, RunnerName, Support};

use crate::api::{Native, Sight, file_error};
use crate::cgroup::Cgroups;
use crate::config::ProcessConfig;
use crate::disk::DiskWatch;
use crate::exchange;
use crate::fence::Fence;
use crate::files;
use crate::lock::Lock;
use crate::logs;
use crate::record::{Phase, Record};
use crate::scan::{self, Scanner};
use crate::users::Users;

/// Everything that a connected backend knows.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: ProcessConfig,
    /// The work folder, with no symbolic link in its path.
    pub(crate) work_dir: PathBuf,
    /// The runner program, shared by all runners.
    pub(crate) shared: PathBuf,
    /// Tells this work folder's cgroups, users and processes from those of others.
    pub(crate) realm: String,
    /// As root: the users of runners.
    pub(crate) users: Option<Users>,
    /// As root, where there is cgroup v2.
    pub(crate) cgroups: Option<Cgroups>,
    pub(crate) boot_id: String,
    /// Where `setsid` is, whatever the runner's `PATH` says.
    pub(crate) setsid: PathBuf,
    pub(crate) scanner: Scanner,
    pub(crate) disk: DiskWatch,
}

impl Host {
    /// The folder of a runner.
    pub(crate) fn folder(&self, name: &RunnerName) -> PathBuf {
        self.work_dir.join(name.to_string())
    }

    /// The folder of all locks.
    pub(crate) fn locks(&self) -> PathBuf {
        self.work_dir.join(".locks")
    }

    /// The lock of a runner.
    pub(crate) fn lock_path(&self, name: &RunnerName) -> PathBuf {
        self.locks().join(name.to_string())
    }

    /// The folder of failed runners' logs.
    pub(crate) fn failed(&self) -> PathBuf {
        self.work_dir.join("failed")
    }

    /// What marks the processes of a runner.
    pub(crate) fn marker(&self, name: &RunnerName) -> String {
        format!("{}/{name}", self.realm)
    }

    /// What holds the processes of a runner together.
    pub(crate) fn fence(&self, record: &Record) -> Fence {
        let name = record.name.to_string();
        Fence {
            cgroup: self.cgroups.as_ref().map(|groups| groups.of(&name)),
            uid: record.uid,
            main: record.main.filter(|_| record.boot_id == self.boot_id),
            marker: self.marker(&record.name),
        }
    }

    /// The only user whose exchange files are taken.
    pub(crate) fn owner(&self, record: &Record) -> u32 {
        record
            .uid
            .unwrap_or_else(|| rustix::process::geteuid().as_raw())
    }

    /// Looks at a runner.
    pub(crate) fn look(&self, record: &Record) -> Result<Native> {
        let folder = self.folder(&record.name);
        let same_boot = record.boot_id == self.boot_id;
        let alive = same_boot && record.main.is_some_and(scan::is_alive);
        let started = folder.join("started").exists();
        let sight = Sight {
            phase: record.phase,
            same_boot,
            alive,
            locked: !started && Lock::is_held(&self.lock_path(&record.name))?,
            started,
            exit_code: if alive {
                None
            } else {
                exchange::exit_code(&folder, self.owner(record))?
            },
            over_disk: alive && self.is_over_disk(&record.name, &folder),
        };
        if alive {
            logs::bound(&folder, logs::MAX_LOG)?;
            self.thaw_if_left(record)?;
        }
        let native = sight.native();
        if native != Native::Abandoned {
            return Ok(native);
        }
        // A launch may have gone on and ended between the looks at its parts.
        match self.record(&record.name)? {
            Some(now) if now != *record => self.look(&now),
            _ => Ok(native),
        }
    }

    fn is_over_disk(&self, name: &RunnerName, folder: &Path) -> bool {
        let limit = self.config.max_disk_bytes;
        limit.is_some_and(|limit| self.disk.is_over(name, folder, limit))
    }

    /// Lets a runner go on that a manager froze and then crashed. While anybody holds the lock
    /// it is frozen on purpose.
    fn thaw_if_left(&self, record: &Record) -> Result<()> {
        let fence = self.fence(record);
        if !fence.may_be_frozen(&self.scanner)? {
            return Ok(());
        }
        if let Some(_lock) = Lock::try_take(&self.lock_path(&record.name))?
            && fence.is_frozen()?
        {
            tracing::warn!(runner = %record.name, "thaw a runner that was left frozen");
            fence.thaw()?;
        }
        Ok(())
    }

    /// A runner as the contract shows it.
    pub(crate) fn show(&self, record: &Record) -> Result<CloudInstance> {
        let native = self.look(record)?;
        tracing::debug!(runner = %record.name, state = native.as_str(), "look at the runner");
        Ok(CloudInstance {
            name: record.name.clone(),
            native_id: record.native_id(),
            state: native.state(),
            created_at: record.created_at,
            addresses: Vec::new(),
        })
    }

    /// The record of a runner, if it has one.
    pub(crate) fn record(&self, name: &RunnerName) -> Result<Option<Record>> {
        let record = Record::load(&self.folder(name), name)?;
        if record.is_none() {
            self.refuse_missing()?;
        }
        Ok(record)
    }

    /// The names in the work folder.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let names = files::names(&self.work_dir)?;
        if names.is_empty() {
            self.refuse_missing()?;
        }
        Ok(names)
    }

    /// A work folder that is not there, because its disk is not mounted, holds runners all the
    /// same: none of them is gone.
    fn refuse_missing(&self) -> Result<()> {
        match std::fs::metadata(&self.work_dir) {
            Ok(_) => Ok(()),
            Err(error) => Err(file_error("find the work folder", &self.work_dir, error)),
        }
    }

    /// The runner, if it exists.
    pub(crate) fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        match self.record(name)? {
            Some(record) => self.show(&record).map(Some),
            None => Ok(None),
        }
    }

    /// The runners of a prefix.
    pub(crate) fn list(
        &self,
        prefix: &runner_manager_core::NamePrefix,
    ) -> Result<Vec<CloudInstance>> {
        let mut found = Vec::new();
        for file in self.names()? {
            let Some(name) = prefix.owned(&file) else {
                continue;
            };
            match self.get(&name) {
                Ok(instance) => found.extend(instance),
                // One that is deleted meanwhile is none.
                Err(error) if error.kind() == ErrorKind::Local && !self.folder(&name).exists() => {}
                Err(error) => return Err(error.with_context("runner", &name)),
            }
        }
        Ok(found)
    }

    /// Writes down that the manager itself stopped the runner.
    pub(crate) fn note_stopped(&self, record: &Record) -> Result<()> {
        let stopped = Record {
            phase: Phase::Stopped,
            ..record.clone()
        };
        stopped.store(&self.folder(&record.name))
    }
}

/// What the backend can do, with and without root.
pub(crate) fn capability(users: Option<&Users>, cgroups: bool) -> Capability {
    Capability {
        jit_config: Support::Native,
        registration_token: Support::Native,
        claim: Support::Unsupported("the credential reaches the runner through a pipe"),
        guest: Support::Native,
        cloud_init: Support::Unsupported("the runner is started directly"),
        idle_stop: if cgroups {
            Support::Native
        } else {
            Support::Emulated
        },
        shell: Support::Unsupported(
            "the runner is on this machine: look at its processes and files",
        ),
        console: Support::Native,
        resource_limits: match (users.is_some(), cgroups) {
            (true, true) => Support::Native,
            (true, false) => Support::Unsupported("this machine has no cgroup v2 to write to"),
            (false, _) => Support::Unsupported("limits need cgroups, and those need root"),
        },
        support_services: Support::Emulated,
        outlives_manager: Support::Native,
        max_instances: users.map(Users::count),
        max_user_data_bytes: None,
    }
}
