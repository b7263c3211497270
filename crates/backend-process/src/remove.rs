//! Deleting folders that untrusted users have filled.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use runner_manager_core::{Effect, Error, ErrorKind, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::{Gid, Uid};

use crate::api::{file_error, late};

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens a folder below another (Linux 5.6): the kernel follows no link, leaves the folder by no
/// `..`, and enters no mount, whatever is swapped meanwhile.
pub(crate) fn open_below(
    folder: impl AsFd,
    path: impl Arg,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve)
}

/// How deep the deletion descends before it brings what lies deeper up to the top: bounds its
/// stack and its open files, however deep a job nested its folders.
const MAX_DEPTH: usize = 32;

struct Remover<'a> {
    top: OwnedFd,
    path: &'a Path,
    deadline: Instant,
    /// The number of the next folder that is brought up.
    next: u64,
    moved: bool,
}

/// Deletes a folder with everything in it; the file `last` goes last of all, so that a folder that
/// is half deleted is known to be one. Follows no symbolic link and enters no mount. An absent
/// folder is fine.
///
/// The parent of the folder must be writable for trusted users only; all below it may be swapped
/// while this runs.
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
    let next = first_free(&top).map_err(fail)?;
    let mut remover = Remover {
        top,
        path,
        deadline,
        next,
        moved: false,
    };
    let top = open_below(&remover.top, c".", FOLDER).map_err(fail)?;
    // The next round finds the folders that were brought up.
    loop {
        remover.moved = false;
        remover.empty(&top, 0, Some(last))?;
        if !remover.moved {
            break;
        }
    }
    match rustix::fs::unlinkat(&remover.top, last, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(fail(error)),
    }
    rustix::fs::rmdir(path).map_err(fail)
}

/// The name of a folder that was brought up to the top is this and a number.
const DEEP: &str = ".deep-";

/// The first number that no folder has which an earlier deletion brought up and did not delete.
fn first_free(top: &OwnedFd) -> rustix::io::Result<u64> {
    let mut next = 1;
    for entry in Dir::read_from(top)? {
        let entry = entry?;
        let name = entry.file_name().to_str().ok();
        let number: Option<u64> = name
            .and_then(|name| name.strip_prefix(DEEP))
            .and_then(|number| number.parse().ok());
        next = next.max(number.map_or(0, |number| number.saturating_add(1)));
    }
    Ok(next)
}

impl Remover<'_> {
    /// Empties a folder, but for what is brought up to the top.
    fn empty(&mut self, folder: &OwnedFd, depth: usize, keep: Option<&str>) -> Result<()> {
        if Instant::now() >= self.deadline {
            let error =
                late("the folder is too large to be deleted in time; the next cleanup goes on");
            return Err(error
                .with_effect(Effect::Partial)
                .with_context("path", self.path.display()));
        }
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
        Ok(())
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
        let child = match self.open_child(folder, name) {
            Ok(child) => child,
            // Another kind of file than the list said.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return self.gone(rustix::fs::unlinkat(folder, name, AtFlags::empty()));
            }
            Err(Errno::XDEV) => return Err(self.mounted(name)),
            Err(error) => return self.gone(Err(error)),
        };
        if depth >= MAX_DEPTH {
            return self.bring_up(folder, name);
        }
        self.empty(&child, depth + 1, None)?;
        drop(child);
        self.gone(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR))
    }

    /// Opens a folder within another. Without root, its owner may have closed it: then it is opened
    /// for its owner first, by its handle.
    fn open_child(&self, folder: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
        if rustix::process::geteuid().is_root() {
            let child = open_below(folder, name, FOLDER)?;
            seal(&child)?;
            return Ok(child);
        }
        match open_below(folder, name, FOLDER) {
            Err(Errno::ACCESS) => {}
            // Without root a folder that can be read may still keep its entries.
            Ok(child) if is_closed(&child) => {
                rustix::fs::fchmod(&child, Mode::RWXU)?;
                return Ok(child);
            }
            opened => return opened,
        }
        let handle = open_below(folder, name, OFlags::PATH | OFlags::DIRECTORY)?;
        // A handle that may not be read has no `fchmod`; this is the way that does not go by name.
        rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::RWXU)?;
        open_below(folder, name, FOLDER)
    }

    /// Brings a folder up to the top, which only trusted users can write to.
    fn bring_up(&mut self, folder: &OwnedFd, name: &CStr) -> Result<()> {
        let up = CString::new(format!("{DEEP}{}", self.next)).unwrap_or_default();
        self.next = self.next.saturating_add(1);
        self.moved = true;
        self.gone(rustix::fs::renameat(folder, name, &self.top, &up))
    }

    fn mounted(&self, name: &CStr) -> Error {
        let message = "a file system is mounted in the folder; unmount it first";
        Error::new(ErrorKind::Local, message)
            .with_effect(Effect::Partial)
            .with_context("path", self.path.display())
            .with_context("mounted", name.to_string_lossy())
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

/// Takes a folder away from all users but root. A job may have handed its open folder to the job of
/// another runner, which could fill it faster than it is emptied.
fn seal(folder: &OwnedFd) -> rustix::io::Result<()> {
    // First the owner, who could open it again.
    rustix::fs::fchown(folder, Some(Uid::ROOT), Some(Gid::ROOT))?;
    rustix::fs::fchmod(folder, Mode::RWXU)
}

/// Whether the owner of a folder may not read, change and pass it.
fn is_closed(folder: &OwnedFd) -> bool {
    let mode = rustix::fs::fstat(folder).map_or(0o700, |stat| stat.st_mode);
    mode & 0o700 != 0o700
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

    #[test]
    fn folders_that_an_earlier_deletion_brought_up_are_in_nobodys_way() {
        let base = tempfile::tempdir().unwrap();
        let doomed = base.path().join("doomed");
        let deep = |top: String| doomed.join(top).join("d/".repeat(MAX_DEPTH + 4));
        for number in 1..=3 {
            fs::create_dir_all(deep(format!("{DEEP}{number}"))).unwrap();
        }
        for letter in 'a'..='z' {
            fs::create_dir_all(deep(letter.into())).unwrap();
        }
        fs::write(doomed.join("last"), "x").unwrap();
        remove_tree(&doomed, "last", soon()).unwrap();
        assert!(!doomed.exists());
    }
}
