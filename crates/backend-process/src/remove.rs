//! Deleting folders that untrusted users have filled.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use runner_manager_core::{Effect, Error, ErrorKind, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::api::{file_error, late};

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How deep the deletion descends before it brings what lies deeper up to the top: bounds its
/// stack and its open files, however deep a job nested its folders.
const MAX_DEPTH: usize = 32;

struct Remover<'a> {
    top: OwnedFd,
    path: &'a Path,
    deadline: Instant,
    device: u64,
    moved: u64,
}

/// Deletes a folder with everything in it; `last` goes last of all, so that a deletion that is
/// broken off is known to be one. Follows no symbolic link and enters no mount. An absent
/// folder is fine.
pub(crate) fn remove_tree(path: &Path, last: &str, deadline: Instant) -> Result<()> {
    let fail =
        |error: Errno| file_error("delete the folder", path, error).with_effect(Effect::Partial);
    let top = match rustix::fs::open(path, FOLDER, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        // A file or a symbolic link in the place of the folder.
        Err(Errno::NOTDIR | Errno::LOOP) => return rustix::fs::unlink(path).map_err(fail),
        Err(error) => return Err(fail(error)),
    };
    let device = rustix::fs::fstat(&top).map_err(fail)?.st_dev;
    let mut remover = Remover {
        top,
        path,
        deadline,
        device,
        moved: 0,
    };
    let top = remover.top.try_clone().map_err(|error| {
        file_error("delete the folder", path, error).with_effect(Effect::Partial)
    })?;
    // What was brought up is found by the next round.
    while remover.empty(&top, 0, Some(last))? {}
    match rustix::fs::unlinkat(&remover.top, last, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(fail(error)),
    }
    rustix::fs::rmdir(path).map_err(fail)
}

impl Remover<'_> {
    /// Empties a folder. True when something was moved to the top meanwhile.
    fn empty(&mut self, folder: &OwnedFd, depth: usize, keep: Option<&str>) -> Result<bool> {
        if Instant::now() >= self.deadline {
            let error =
                late("the folder is too large to be deleted in time; the next cleanup goes on");
            return Err(error
                .with_effect(Effect::Partial)
                .with_context("path", self.path.display()));
        }
        let before = self.moved;
        let entries = Dir::read_from(folder).map_err(|e| self.fail(e))?;
        for entry in entries {
            let entry = entry.map_err(|e| self.fail(e))?;
            let name = entry.file_name();
            if name == c"."
                || name == c".."
                || keep.is_some_and(|k| k.as_bytes() == name.to_bytes())
            {
                continue;
            }
            self.remove_one(folder, name, entry.file_type(), depth)?;
        }
        Ok(self.moved > before)
    }

    fn remove_one(
        &mut self,
        folder: &OwnedFd,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> Result<()> {
        if !matches!(kind, FileType::Directory | FileType::Unknown) {
            return self.gone(rustix::fs::unlinkat(folder, name, AtFlags::empty()));
        }
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(error) => return self.gone(Err(error)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return self.gone(rustix::fs::unlinkat(folder, name, AtFlags::empty()));
        }
        if stat.st_dev != self.device {
            let message = "a file system is mounted in the folder; unmount it first";
            return Err(Error::new(ErrorKind::Local, message)
                .with_effect(Effect::Partial)
                .with_context("path", self.path.display())
                .with_context("mounted", name.to_string_lossy()));
        }
        if Mode::from_raw_mode(stat.st_mode).bits() & 0o700 != 0o700 {
            // Without root a folder that its owner closed cannot be emptied.
            let _ = rustix::fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty());
        }
        if depth >= MAX_DEPTH {
            self.moved += 1;
            let up = CString::new(format!(".deep-{}", self.moved)).unwrap_or_default();
            let moved = rustix::fs::renameat(folder, name, &self.top, &up);
            return self.gone(moved);
        }
        let child = match rustix::fs::openat(folder, name, FOLDER, Mode::empty()) {
            Ok(child) => child,
            Err(error) => return self.gone(Err(error)),
        };
        self.empty(&child, depth + 1, None)?;
        drop(child);
        self.gone(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR))
    }

    /// What is gone already is fine.
    fn gone(&self, outcome: rustix::io::Result<()>) -> Result<()> {
        match outcome {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn fail(&self, error: Errno) -> Error {
        file_error("delete the folder", self.path, error).with_effect(Effect::Partial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let (doomed, kept) = (base.path().join("doomed"), base.path().join("kept"));
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        fs::create_dir_all(doomed.join("a/b")).unwrap();
        symlink(&kept, doomed.join("a/link")).unwrap();
        symlink(&kept, doomed.join("top")).unwrap();
        fs::write(doomed.join("last"), "x").unwrap();
        fs::set_permissions(doomed.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&doomed, "last", soon()).unwrap();
        assert!(!doomed.exists());
        assert!(kept.join("file").exists());
        remove_tree(&doomed, "last", soon()).unwrap();
        symlink(&kept, &doomed).unwrap();
        remove_tree(&doomed, "last", soon()).unwrap();
        assert!(kept.join("file").exists());
        assert!(fs::symlink_metadata(&doomed).is_err());
    }

    #[test]
    fn very_deep_folders_go_too() {
        let base = tempfile::tempdir().unwrap();
        let doomed = base.path().join("doomed");
        fs::create_dir(&doomed).unwrap();
        let mut at = rustix::fs::open(&doomed, FOLDER, Mode::empty()).unwrap();
        for _ in 0..5_000 {
            rustix::fs::mkdirat(&at, "deeper", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "deeper", FOLDER, Mode::empty()).unwrap();
        }
        drop(at);
        remove_tree(&doomed, "last", soon()).unwrap();
        assert!(!doomed.exists());
    }

    #[test]
    fn a_deletion_that_is_late_keeps_the_record() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("a")).unwrap();
        fs::write(base.path().join("last"), "x").unwrap();
        let error = remove_tree(base.path(), "last", Instant::now()).unwrap_err();
        assert_eq!(error.effect(), Effect::Partial);
        assert!(base.path().join("last").exists());
    }
}
