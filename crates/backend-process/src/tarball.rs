//! The runner program as an archive: checked, unpacked once, shared read-only.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use runner_manager_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};
use tar::{Archive, Entry, EntryType};

use crate::api::file_error;
use crate::lock::Lock;

/// How long another manager may take to unpack the same archive.
const PATIENCE: Duration = Duration::from_secs(240);

/// More than any release of the runner holds.
const MAX_ENTRIES: usize = 200_000;
const MAX_BYTES: u64 = 8 << 30;

fn corrupt(path: &Path, reason: impl std::fmt::Display) -> Error {
    let message = "the runner archive is corrupt; download it again and check `runner_sha256`";
    Error::new(ErrorKind::InvalidConfig, message)
        .with_context("key", "runner_tarball")
        .with_context("path", path.display())
        .with_context("reason", reason)
}

/// The folder that holds the archive's content, unpacked now if it is not yet. `shared` holds
/// one folder per archive, `locks` the lock.
pub(crate) fn unpack(path: &Path, sha256: &str, shared: &Path, locks: &Path) -> Result<PathBuf> {
    let target = shared.join(sha256);
    if target.is_dir() {
        return Ok(target);
    }
    let _lock = Lock::take(&locks.join("unpack"), Instant::now() + PATIENCE)?;
    if target.is_dir() {
        return Ok(target);
    }
    remove_unfinished(shared)?;
    let mut file = open(path)?;
    let found = digest(&mut file).map_err(|e| file_error("read the runner archive", path, e))?;
    if found != sha256 {
        let message = "the runner archive has another checksum than `runner_sha256`";
        return Err(Error::new(ErrorKind::InvalidConfig, message)
            .with_context("key", "runner_sha256")
            .with_context("path", path.display())
            .with_context("expected", sha256)
            .with_context("found", found));
    }
    let new = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(shared)
        .map_err(|e| file_error("make a folder in", shared, e))?;
    file.seek(SeekFrom::Start(0))
        .map_err(|e| file_error("read the runner archive", path, e))?;
    extract(path, file, new.path())?;
    seal(new.path())?;
    crate::runner_folder::check(new.path(), "runner_tarball")?;
    fs::rename(new.path(), &target)
        .map_err(|e| file_error("move the runner folder to", &target, e))?;
    Ok(target)
}

const UNFINISHED: &str = ".unpacking-";

/// What a manager that crashed has left; the lock says that nobody unpacks.
fn remove_unfinished(shared: &Path) -> Result<()> {
    for name in crate::files::names(shared)? {
        if name.starts_with(UNFINISHED) {
            crate::remove::remove_tree(&shared.join(name), "", Instant::now() + PATIENCE)?;
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            let message = "the runner archive does not exist; download an actions-runner release";
            Error::new(ErrorKind::InvalidConfig, message)
                .with_context("key", "runner_tarball")
                .with_context("path", path.display())
        } else {
            file_error("open the runner archive", path, error)
        }
    })
}

fn digest(file: &mut File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

/// Bytes as lowercase hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn extract(path: &Path, file: File, target: &Path) -> Result<()> {
    let mut archive = Archive::new(GzDecoder::new(io::BufReader::new(file)));
    archive.set_preserve_permissions(false);
    archive.set_preserve_mtime(false);
    let (mut count, mut bytes) = (0, 0_u64);
    for entry in archive.entries().map_err(|e| corrupt(path, e))? {
        let mut entry = entry.map_err(|e| corrupt(path, e))?;
        count += 1;
        bytes = bytes.saturating_add(entry.size());
        if count > MAX_ENTRIES || bytes > MAX_BYTES {
            return Err(corrupt(path, "it holds more than any runner does"));
        }
        refuse_escape(&entry).map_err(|reason| corrupt(path, reason))?;
        match entry.unpack_in(target) {
            Ok(true) => {}
            Ok(false) => return Err(corrupt(path, "an entry leads out of the archive")),
            Err(error) => {
                let kind = io::Error::kind(&error);
                let ours = matches!(
                    kind,
                    io::ErrorKind::StorageFull | io::ErrorKind::PermissionDenied
                );
                return Err(if ours {
                    file_error("unpack the runner archive to", target, error)
                } else {
                    corrupt(path, error)
                });
            }
        }
    }
    if count == 0 {
        return Err(corrupt(path, "it is empty"));
    }
    Ok(())
}

/// Refuses entries that are, or lead, outside of the archive, and special files.
fn refuse_escape<R: Read>(entry: &Entry<'_, R>) -> Result<(), String> {
    let name = entry.path().map_err(|e| e.to_string())?;
    let depth = depth(&name).ok_or_else(|| format!("{} leads out of it", name.display()))?;
    let link = || -> Result<PathBuf, String> {
        let link = entry.link_name().map_err(|e| e.to_string())?;
        Ok(link.ok_or("a link without a target")?.into_owned())
    };
    let inside = match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::Directory => true,
        EntryType::Link => self::depth(&link()?).is_some(),
        EntryType::Symlink => {
            let mut whole = PathBuf::from("x/".repeat(depth.saturating_sub(1)));
            let target = link()?;
            !target.is_absolute() && {
                whole.push(target);
                self::depth(&whole).is_some()
            }
        }
        other => return Err(format!("{} is a special entry ({other:?})", name.display())),
    };
    if inside {
        Ok(())
    } else {
        Err(format!("the link {} leads out of it", name.display()))
    }
}

/// How many folders deep a relative path ends; `None` when it is absolute or leaves its start
/// on the way.
fn depth(path: &Path) -> Option<usize> {
    let mut depth = 0_usize;
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth = depth.checked_sub(1)?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(depth)
}

/// Makes everything readable for all and writable for nobody but root.
fn seal(folder: &Path) -> Result<()> {
    let fail = |error| file_error("set the modes of", folder, error);
    fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(fail)?;
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let meta = entry.metadata().map_err(fail)?;
        if meta.is_dir() {
            seal(&entry.path())?;
        } else if meta.is_file() {
            let runs = meta.permissions().mode() & 0o111 != 0;
            let mode = if runs { 0o555 } else { 0o444 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode)).map_err(fail)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Bed {
        base: tempfile::TempDir,
    }

    impl Bed {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            for folder in ["shared", "locks"] {
                fs::create_dir(base.path().join(folder)).unwrap();
            }
            Self { base }
        }

        /// Writes an archive of a whole runner and one more entry: kind, name, link target.
        fn archive(&self, extra: Option<(EntryType, &str, &str)>) -> (PathBuf, String) {
            let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            let mut tar = tar::Builder::new(gzip);
            for (name, mode) in [
                ("./run.sh", 0o4777),
                ("config.sh", 0o755),
                ("bin/tool", 0o644),
            ] {
                let mut header = tar::Header::new_gnu();
                header.set_size(2);
                header.set_mode(mode);
                tar.append_data(&mut header, name, &b"x\n"[..]).unwrap();
            }
            if let Some((kind, name, link)) = extra {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(kind);
                header.set_size(0);
                header.set_mode(0o644);
                // Written raw: the builder itself refuses what is tested here.
                header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
                header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
                header.set_cksum();
                tar.append(&header, io::empty()).unwrap();
            }
            self.file(&tar.into_inner().unwrap().finish().unwrap())
        }

        fn file(&self, bytes: &[u8]) -> (PathBuf, String) {
            let path = self.base.path().join("runner.tar.gz");
            File::create(&path).unwrap().write_all(bytes).unwrap();
            (path, hex(&Sha256::digest(bytes)))
        }

        fn unpack(&self, (path, sha256): &(PathBuf, String)) -> Result<PathBuf> {
            let base = self.base.path();
            unpack(path, sha256, &base.join("shared"), &base.join("locks"))
        }

        fn left(&self) -> Vec<String> {
            crate::files::names(&self.base.path().join("shared")).unwrap()
        }
    }

    #[test]
    fn a_good_archive_is_unpacked_once_and_read_only() {
        let bed = Bed::new();
        let archive = bed.archive(Some((EntryType::Symlink, "bin/alias", "../bin/tool")));
        fs::create_dir(bed.base.path().join("shared/.unpacking-old")).unwrap();
        let folder = bed.unpack(&archive).unwrap();
        let mode = |file| {
            fs::metadata(folder.join(file))
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!((mode("run.sh"), mode("bin/tool")), (0o555, 0o444));
        assert_eq!(fs::read_to_string(folder.join("bin/alias")).unwrap(), "x\n");
        assert_eq!(bed.left().len(), 1);
        fs::remove_file(&archive.0).unwrap();
        assert_eq!(bed.unpack(&archive).unwrap(), folder);
    }

    #[test]
    fn archives_that_lead_outside_are_refused() {
        for extra in [
            (EntryType::Regular, "../evil", ""),
            (EntryType::Regular, "/tmp/evil", ""),
            (EntryType::Symlink, "bin/link", "../../evil"),
            (EntryType::Symlink, "link", "/etc"),
            (EntryType::Link, "hard", "../evil"),
            (EntryType::Link, "hard", "/etc/passwd"),
            (EntryType::Fifo, "pipe", ""),
            (EntryType::Block, "disk", ""),
        ] {
            let bed = Bed::new();
            let error = bed.unpack(&bed.archive(Some(extra))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{extra:?}: {error}");
            assert_eq!(bed.left(), Vec::<String>::new(), "{extra:?}");
        }
    }

    #[test]
    fn wrong_sums_and_broken_archives_are_told_apart() {
        let bed = Bed::new();
        let (path, sha256) = bed.archive(None);
        let error = bed.unpack(&(path.clone(), "0".repeat(64))).unwrap_err();
        assert_eq!(error.context("found"), Some(sha256.as_str()));
        let whole = fs::read(&path).unwrap();
        let half = bed.file(&whole[..whole.len() / 2]);
        for broken in [half, bed.file(b"no archive"), bed.file(b"")] {
            // Each file was overwritten by the next: the sum of the last is right.
            let Err(error) = bed.unpack(&broken) else {
                panic!("{broken:?} was taken");
            };
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
        let error = bed
            .unpack(&bed.file(&whole[..whole.len() / 2]))
            .unwrap_err();
        assert!(error.message().contains("corrupt"), "{error}");
        let none = (bed.base.path().join("none"), sha256);
        assert!(
            bed.unpack(&none)
                .unwrap_err()
                .message()
                .contains("does not exist")
        );
        assert_eq!(bed.left(), Vec::<String>::new());
    }
}
