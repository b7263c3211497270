//! One lock per runner name, so that tasks and managers do not work on one runner at once.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runner_manager_core::Result;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::api::{file_error, late};

/// A lock that is held. The kernel frees it with the process, so that a crash leaves none.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: OwnedFd,
}

const FLAGS: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Lock {
    /// Waits for the lock until the deadline.
    pub(crate) fn take(path: &Path, deadline: Instant) -> Result<Self> {
        loop {
            if let Some(lock) = Self::try_take(path)? {
                return Ok(lock);
            }
            if Instant::now() >= deadline {
                let error = late("another task or manager works on this runner; try again later");
                return Err(error.with_context("lock", path.display()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Takes the lock if nobody has it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Self>> {
        let fail = |error: Errno| file_error("lock", path, error);
        let file = rustix::fs::open(path, FLAGS | OFlags::CREATE, Mode::RUSR | Mode::WUSR)
            .map_err(fail)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(fail(error)),
        }
        // The holder before may have removed the file: then this is a lock on nothing.
        let mine = rustix::fs::fstat(&file).map_err(fail)?;
        match rustix::fs::stat(path) {
            Ok(named) if (named.st_ino, named.st_dev) == (mine.st_ino, mine.st_dev) => {
                Ok(Some(Self {
                    path: path.to_owned(),
                    _file: file,
                }))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    /// Whether anybody holds the lock.
    pub(crate) fn is_held(path: &Path) -> Result<bool> {
        let file = match rustix::fs::open(path, FLAGS, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(file_error("look at the lock", path, error)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(file_error("look at the lock", path, error)),
        }
    }

    /// Frees the lock and removes its file.
    pub(crate) fn remove(self) {
        // Should this fail, the file is found as a leftover.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_a_removed_file_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(!Lock::is_held(&path).unwrap());
        let first = Lock::try_take(&path).unwrap().unwrap();
        assert!(Lock::is_held(&path).unwrap());
        assert!(Lock::try_take(&path).unwrap().is_none());
        assert!(Lock::take(&path, Instant::now()).is_err());
        let (sender, receiver) = std::sync::mpsc::channel();
        let other = path.clone();
        let waiting = std::thread::spawn(move || {
            let deadline = Instant::now() + Duration::from_secs(10);
            let lock = Lock::take(&other, deadline).unwrap();
            sender.send(()).unwrap();
            lock
        });
        assert!(receiver.try_recv().is_err());
        first.remove();
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(Lock::is_held(&path).unwrap());
        waiting.join().unwrap().remove();
        assert!(!path.exists());
    }
}
