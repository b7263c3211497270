//! Small steps on files that several parts share.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, Result, Retry};

use crate::api::file_error;

/// Keeps copies of programs and the start of processes apart. A process that is started while a
/// program is being written holds that file open for a moment, and the kernel refuses to run a
/// file that anybody may write to ("text file busy"). Copies share it, a start has it alone.
pub(crate) static STARTS: RwLock<()> = RwLock::new(());

/// Makes one folder with exactly this mode, whatever the umask, and owner.
pub(crate) fn make_dir(path: &Path, mode: u32, owner: Option<u32>) -> Result<()> {
    let make = || -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)?;
        own(path, owner)?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    make().map_err(|error| file_error("make the folder", path, error))
}

/// Makes one folder with exactly this mode, for the manager's user and the group of a runner.
pub(crate) fn make_dir_of_group(path: &Path, mode: u32, group: u32) -> Result<()> {
    make_dir(path, 0o700, None)?;
    std::os::unix::fs::lchown(path, None, Some(group))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|error| file_error("make the folder", path, error))
}

/// Makes a folder and its parents; one that exists is left as it is.
pub(crate) fn make_dir_all(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| file_error("make the folder", path, error))
}

/// Gives a path, not what it may point to, to a user and the group of the same number.
pub(crate) fn own(path: &Path, owner: Option<u32>) -> io::Result<()> {
    match owner {
        Some(id) => std::os::unix::fs::lchown(path, Some(id), Some(id)),
        None => Ok(()),
    }
}

/// Writes a file that its readers may not change.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(|error| file_error("write", path, error))
}

/// When a path was changed last.
pub(crate) fn modified(path: &Path) -> Option<Timestamp> {
    let time = fs::symlink_metadata(path).ok()?.modified().ok()?;
    Timestamp::try_from(time).ok()
}

/// The names in a folder; an absent folder has none.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let fail = |error| file_error("list the folder", folder, error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is not text is no runner's.
        names.extend(entry.map_err(fail)?.file_name().into_string().ok());
    }
    Ok(names)
}

/// Refuses when less than `least` bytes are free for the folder.
pub(crate) fn check_free(folder: &Path, least: u64) -> Result<()> {
    let stat = rustix::fs::statvfs(folder)
        .map_err(|error| file_error("ask for the free space of", folder, error))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= least {
        return Ok(());
    }
    let message = "too little disk space is free; make room, or lower `min_free_bytes`";
    Err(Error::new(ErrorKind::NoCapacity, message)
        .with_retry(Retry::After(std::time::Duration::from_secs(60)))
        .with_context("path", folder.display())
        .with_context("free bytes", free)
        .with_context("min_free_bytes", least))
}

/// The folders that each runner as root gets its own of.
const PRIVATE: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run/lock"];

/// The first parent that other users cannot pass. Parents within the private temporary folders
/// do not count: the launcher makes them anew.
pub(crate) fn closed_parent(path: &Path) -> Option<PathBuf> {
    if PRIVATE.iter().any(|private| path.starts_with(private)) {
        return None;
    }
    let closed = |parent: &&Path| {
        fs::metadata(parent).is_ok_and(|meta| meta.permissions().mode() & 0o001 == 0)
    };
    path.ancestors().skip(1).find(closed).map(Path::to_owned)
}
