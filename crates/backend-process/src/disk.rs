//! How much disk space a runner uses.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use runner_manager_core::RunnerName;

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
fn uses_more(folder: &Path, limit: u64, deadline: Instant) -> Option<bool> {
    let mut used: u64 = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // So deep that the path has no room: nothing but an attack looks like this.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidFilename => return Some(true),
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            // Does not follow symbolic links.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            }
            let links = if meta.is_dir() {
                1
            } else {
                meta.nlink().max(1)
            };
            used = used.saturating_add(meta.blocks().saturating_mul(512) / links);
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
