//! Launching a runner on one host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use runner_manager_core::{CloudInstance, Effect, Error, ErrorKind, Machine, Result, RunnerName};
use uuid::Uuid;
use virt::domain::Domain;

use crate::api::failed;
use crate::config::{Accelerator, Firmware, LibvirtConfig};
use crate::domain::{Mark, Plan, mac};
use crate::host::{Host, Opened};
use crate::list;
use crate::names::{Attempt, Part};
use crate::place::Need;
use crate::pool::{self, Pool};

/// One attempt to launch a runner.
pub(crate) struct Launch {
    pub(crate) config: Arc<LibvirtConfig>,
    pub(crate) machine: Machine,
    pub(crate) name: RunnerName,
    pub(crate) uuid: Uuid,
    /// The image of the seed.
    pub(crate) seed: Vec<u8>,
    /// Nobody waits for it any more: what was made is removed again.
    pub(crate) cancelled: Arc<AtomicBool>,
}

/// A launch that counts as under way on a host, until it is dropped.
pub(crate) struct UnderWay {
    host: Arc<Host>,
    attempt: Attempt,
}

impl UnderWay {
    pub(crate) fn new(host: &Arc<Host>, attempt: Attempt, need: Need) -> Self {
        host.memory().under_way.insert(attempt.clone(), need);
        Self {
            host: Arc::clone(host),
            attempt,
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.host.memory().under_way.remove(&self.attempt);
    }
}

/// The error where KVM is asked for, and is not there.
pub(crate) fn no_kvm() -> Error {
    let message = "the host has no KVM for guests of this kind; load its module, or choose \
                   `accelerator = \"auto\"`";
    Error::new(ErrorKind::Unsupported, message).with_context("key", "accelerator")
}

impl Launch {
    /// Launches, or adopts what an earlier attempt left running. What fails is undone.
    pub(crate) fn run(&self, host: &Host, opened: &Opened) -> Result<CloudInstance> {
        let connection = &opened.session.connection;
        if list::find(host, connection, &self.name)?.is_some()
            && let Some(instance) = list::get(host, opened, &self.name)?
        {
            return Ok(instance);
        }
        let pool = Pool::open(connection, &self.config)?;
        let error = match self.make(host, opened, &pool) {
            Ok(instance) => return Ok(instance),
            Err(error) => self.undo(host, opened, &pool, error),
        };
        // Another manager may have been quicker with the same name.
        let other = if self.go_on().is_ok() && error.effect() == Effect::None {
            list::get(host, opened, &self.name)
        } else {
            Ok(None)
        };
        other.ok().flatten().ok_or(error)
    }

    pub(crate) fn attempt(&self) -> Attempt {
        Attempt::of(&self.name, self.uuid)
    }

    fn go_on(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::TimedOut, "the launch was given up"));
        }
        Ok(())
    }

    fn make(&self, host: &Host, opened: &Opened, pool: &Pool<'_>) -> Result<CloudInstance> {
        let connection = &opened.session.connection;
        let (attempt, folder) = (self.attempt(), pool.folder()?);
        let image = pool::image(connection, &self.config)?;
        let bytes = self.config.disk_gib.map(|gib| u64::from(gib) << 30);
        self.go_on()?;
        pool.make_disk(&attempt.volume(Part::Disk), &image, bytes)?;
        pool.make_empty(&attempt.volume(Part::Console))?;
        self.go_on()?;
        pool.make(&attempt.volume(Part::Seed), &self.seed)?;
        self.go_on()?;
        let mark = Mark {
            name: self.name.clone(),
            created_at: Timestamp::now(),
            mac: mac(Uuid::new_v4()),
        };
        let plan = Plan {
            config: &self.config,
            machine: self.machine,
            uuid: self.uuid,
            mark: mark.clone(),
            folder: &folder,
            kvm: self.kvm(opened)?,
        };
        Domain::create_xml(connection, &plan.xml()?, 0).map_err(failed("start the domain"))?;
        self.go_on()?;
        Ok(list::started(&mark, self.uuid, host))
    }

    fn kvm(&self, opened: &Opened) -> Result<bool> {
        let has = opened.facts.has_kvm(self.machine.uname());
        match self.config.accelerator {
            Accelerator::Tcg => Ok(false),
            Accelerator::Auto => Ok(has),
            Accelerator::Kvm if has => Ok(true),
            Accelerator::Kvm => Err(no_kvm()),
        }
    }

    /// Removes what this attempt made, and says in the error whether it could.
    fn undo(&self, host: &Host, opened: &Opened, pool: &Pool<'_>, error: Error) -> Error {
        let uefi = self.config.firmware == Firmware::Uefi;
        let domain = list::destroy(host, &opened.session.connection, self.uuid, &self.name);
        let volumes = domain.and_then(|_| pool.remove_all(&self.attempt(), uefi));
        match volumes {
            Ok(()) => error.with_effect(Effect::None),
            Err(left) => error
                .with_effect(Effect::Partial)
                .with_context("not removed", left),
        }
    }
}
