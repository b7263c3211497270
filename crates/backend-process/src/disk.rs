//! How much disk space a runner uses.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use runner_manager_core::RunnerName;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::remove::open_below;

/// Watches the disk use of runners, each at most every half minute.
#[derive(Debug, Default)]
pub(crate) struct DiskWatch(Mutex<HashMap<RunnerName, (Instant, bool)>>);

impl DiskWatch {
    const EVERY: Duration = Duration::from_secs(30);
    /// The longest that one look may take.
    const PATIENCE: Duration = Duration::from_secs(5);

    /// Whether a runner uses more than `limit` bytes.
    pub(crate) fn is_over(&self, name: &RunnerName, folder: &Path, limit: u64) -> bool {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = lock().get(name).copied();
        if let Some((at, over)) = last
            && at.elapsed() < Self::EVERY
        {
            return over;
        }
        let deadline = Instant::now() + Self::PATIENCE;
        // Without an answer in time the last one stands.
        let over = uses_more(folder, limit, deadline)
            .unwrap_or_else(|| last.is_some_and(|(_, over)| over));
        lock().insert(name.clone(), (Instant::now(), over));
        over
    }

    /// Forgets a runner that is gone.
    pub(crate) fn forget(&self, name: &RunnerName) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(name);
    }
}

/// Adds up the blocks of files, and stops as soon as the answer is known. Each name of a file
/// counts for its share, so that files shared with the runner folder hardly count. `None` after
/// the deadline.
///
/// The job swaps names meanwhile: every folder is opened below the first, through no link.
fn uses_more(folder: &Path, limit: u64, deadline: Instant) -> Option<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(top) = rustix::fs::open(folder, flags, Mode::empty()) else {
        return Some(false);
    };
    let mut used: u64 = 0;
    let mut folders = vec![PathBuf::from(".")];
    while let Some(folder) = folders.pop() {
        let open = match open_below(&top, &folder, flags) {
            Ok(open) => open,
            // So deep that the path has no room: nothing but an attack looks like this.
            Err(Errno::NAMETOOLONG) => return Some(true),
            Err(_) => continue,
        };
        let Ok(entries) = Dir::read_from(&open) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let stat = rustix::fs::statat(&open, name, AtFlags::SYMLINK_NOFOLLOW);
            let Ok(stat) = stat else { continue };
            let mut links = 1;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                folders.push(folder.join(OsStr::from_bytes(name.to_bytes())));
            } else {
                links = stat.st_nlink.max(1);
            }
            let blocks = u64::try_from(stat.st_blocks).unwrap_or_default();
            used = used.saturating_add(blocks.saturating_mul(512) / links);
            if used > limit {
                return Some(true);
            }
        }
        if Instant::now() >= deadline {
            return None;
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn use_is_added_up_and_links_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let deadline = || Instant::now() + Duration::from_secs(30);
        fs::create_dir(base.path().join("a")).unwrap();
        fs::write(base.path().join("a/file"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", base.path().join("usr")).unwrap();
        assert_eq!(uses_more(base.path(), 50_000, deadline()), Some(true));
        assert_eq!(uses_more(base.path(), 1_000_000, deadline()), Some(false));
        assert_eq!(uses_more(base.path(), 1_000_000, Instant::now()), None);
    }
}
