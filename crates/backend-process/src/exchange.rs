//! Reading the files that a runner leaves for the manager. All of it is untrusted.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use runner_manager_core::{ExchangeFile, GuestFile, Result};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::api::file_error;

/// The exchange folder within a runner's folder.
pub(crate) const FOLDER: &str = "exchange";

/// The wrapper's note of how the runner program ended.
const EXIT_CODE: &str = "exit-code";

/// Reads one file of the exchange folder. `owner` is the only user whose file is taken.
pub(crate) fn read(folder: &Path, file: &str, owner: u32) -> Result<GuestFile> {
    let refuse = |reason: &str| Ok(GuestFile::Refused(reason.to_owned()));
    let step = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let exchange = folder.join(FOLDER);
    let opened =
        rustix::fs::open(&exchange, step | OFlags::DIRECTORY, Mode::empty()).and_then(|dir| {
            // A pipe must not hold up the manager, nor a terminal become its own.
            let flags = step | OFlags::NONBLOCK | OFlags::NOCTTY;
            rustix::fs::openat(&dir, file, flags, Mode::empty())
        });
    let opened = match opened {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(GuestFile::Absent),
        Err(Errno::LOOP | Errno::NOTDIR) => return refuse("is a symbolic link"),
        Err(Errno::NXIO | Errno::NODEV | Errno::ACCESS) => return refuse("cannot be opened"),
        // A job can hold a lease on its file, which keeps everybody else from opening it.
        Err(Errno::AGAIN) => return refuse("is leased"),
        Err(error) => return Err(file_error("read the exchange file", &exchange, error)),
    };
    let fail = |error: std::io::Error| file_error("read the exchange file", &exchange, error);
    let stat = rustix::fs::fstat(&opened).map_err(|e| fail(e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return refuse("is not a regular file");
    }
    if stat.st_uid != owner {
        return refuse("does not belong to the runner's user");
    }
    let mut bytes = Vec::new();
    let limit = ExchangeFile::MAX_BYTES;
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::from(opened)
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() > limit {
        return refuse("is larger than 1024 bytes");
    }
    Ok(GuestFile::Bytes(bytes))
}

/// The exit code that the wrapper left, if it did and it is one.
pub(crate) fn exit_code(folder: &Path, owner: u32) -> Result<Option<i32>> {
    let GuestFile::Bytes(bytes) = read(folder, EXIT_CODE, owner)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim().parse().ok())
}

/// Whether a file is there, whatever is in it.
pub(crate) fn has(folder: &Path, file: ExchangeFile, owner: u32) -> Result<bool> {
    let content = read(folder, file.file_name(), owner)?;
    Ok(matches!(content, GuestFile::Bytes(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_small_regular_files_of_the_owner_are_read() {
        let base = tempfile::tempdir().unwrap();
        let exchange = base.path().join(FOLDER);
        let me = rustix::process::geteuid().as_raw();
        let get = |file| read(base.path(), file, me).unwrap();
        assert_eq!(get("a"), GuestFile::Absent);
        fs::create_dir(&exchange).unwrap();
        assert_eq!(get("a"), GuestFile::Absent);
        fs::write(exchange.join("a"), "x".repeat(1024)).unwrap();
        assert!(matches!(get("a"), GuestFile::Bytes(bytes) if bytes.len() == 1024));
        fs::write(exchange.join("big"), "x".repeat(1025)).unwrap();
        symlink("/etc/passwd", exchange.join("link")).unwrap();
        fs::create_dir(exchange.join("dir")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, exchange.join("pipe"), Mode::RUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(exchange.join("socket")).unwrap();
        for file in ["big", "link", "dir", "pipe", "socket"] {
            assert!(
                matches!(get(file), GuestFile::Refused(_)),
                "{file} was read"
            );
        }
        let other = read(base.path(), "a", me + 1).unwrap();
        assert!(matches!(other, GuestFile::Refused(_)));
        fs::rename(&exchange, base.path().join("moved")).unwrap();
        symlink(base.path().join("moved"), &exchange).unwrap();
        assert!(matches!(get("a"), GuestFile::Refused(_)));
    }
}
