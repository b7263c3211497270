//! The output of runners: bounded while they run, kept when they fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use runner_manager_core::{Result, RunnerName};
use rustix::fs::{Mode, OFlags};

use crate::api::file_error;
use crate::config::FailedLogs;

/// The output of the runner program within a runner's folder, and what was cut off it.
const LOG: &str = "log";
const OLD: &str = "log.old";

/// The most bytes that the log may have when it is looked at; beyond, its end moves to
/// `log.old` and it starts anew.
pub(crate) const MAX_LOG: u64 = 4 << 20;

/// The end of the log that [`tail`] gives to an operator.
pub(crate) const CONSOLE_BYTES: u64 = 64 * 1024;

/// Opens the log for the runner. Every write goes to the end, so that the log can be cut while
/// the runner writes to it.
pub(crate) fn create(folder: &Path, owner: Option<u32>) -> Result<File> {
    let path = folder.join(LOG);
    let open = || -> io::Result<File> {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        crate::files::own(&path, owner)?;
        Ok(file)
    };
    open().map_err(|error| file_error("make the log", &path, error))
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(
        path,
        flags,
        Mode::RUSR | Mode::WUSR,
    )?))
}

/// Cuts a log that has grown past its bound.
pub(crate) fn bound(folder: &Path, max: u64) -> Result<()> {
    let path = folder.join(LOG);
    let cut = || -> io::Result<()> {
        let mut log = match open(&path, OFlags::RDWR) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if log.metadata()?.len() <= max {
            return Ok(());
        }
        let end = last_bytes(&mut log, max / 2)?;
        let old = open(
            &folder.join(OLD),
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC,
        );
        old?.write_all(&end)?;
        log.set_len(0)
    };
    cut().map_err(|error| file_error("cut the log", &path, error))
}

fn last_bytes(file: &mut File, most: u64) -> io::Result<Vec<u8>> {
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The end of the log, with what was cut off it where that fits. `None` when there is no log.
pub(crate) fn tail(folder: &Path, most: u64) -> Result<Option<String>> {
    let read = |file: &str, most: u64| -> Result<Option<Vec<u8>>> {
        let path = folder.join(file);
        match open(&path, OFlags::RDONLY).and_then(|mut file| last_bytes(&mut file, most)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error("read the log", &path, error)),
        }
    };
    let Some(new) = read(LOG, most)? else {
        return Ok(None);
    };
    let left = most.saturating_sub(u64::try_from(new.len()).unwrap_or(most));
    let mut bytes = read(OLD, left)?.unwrap_or_default();
    bytes.extend(new);
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Keeps the end of a failed runner's log, and of all kept logs the newest.
pub(crate) fn keep(
    failed: &Path,
    folder: &Path,
    name: &RunnerName,
    headline: &str,
    rules: &FailedLogs,
) -> Result<()> {
    if rules.count == 0 {
        return Ok(());
    }
    let Some(end) = tail(folder, u64::from(rules.bytes))? else {
        return Ok(());
    };
    let path = failed.join(format!("{name}.log"));
    crate::files::write(&path, &format!("{headline}\n{end}"), 0o600)?;
    prune(failed, rules.count)
}

fn prune(failed: &Path, count: usize) -> Result<()> {
    let mut logs: Vec<_> = crate::files::names(failed)?
        .into_iter()
        .filter(|file| {
            let name = file.strip_suffix(".log");
            name.is_some_and(|name| name.parse::<RunnerName>().is_ok())
        })
        .map(|file| failed.join(file))
        .map(|path| (crate::files::modified(&path), path))
        .collect();
    logs.sort();
    for (_, path) in logs.iter().rev().skip(count) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file_error("remove the old log", path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_is_cut_and_its_end_stays() {
        let base = tempfile::tempdir().unwrap();
        assert_eq!(tail(base.path(), 10).unwrap(), None);
        let mut log = create(base.path(), None).unwrap();
        log.write_all(&[b'a'; 900]).unwrap();
        bound(base.path(), 1000).unwrap();
        log.write_all(&[b'b'; 200]).unwrap();
        bound(base.path(), 1000).unwrap();
        log.write_all(b"c").unwrap();
        assert_eq!(fs::read(base.path().join(LOG)).unwrap(), b"c");
        assert_eq!(fs::metadata(base.path().join(OLD)).unwrap().len(), 500);
        assert_eq!(tail(base.path(), 3).unwrap().unwrap(), "bbc");
        assert_eq!(tail(base.path(), 1).unwrap().unwrap(), "c");
    }

    #[test]
    fn the_newest_failed_logs_are_kept() {
        let base = tempfile::tempdir().unwrap();
        create(base.path(), None)
            .unwrap()
            .write_all(b"0123456789")
            .unwrap();
        let failed = base.path().join("failed");
        fs::create_dir(&failed).unwrap();
        fs::write(failed.join("notes.log"), "an operator's").unwrap();
        let rules = FailedLogs { count: 2, bytes: 4 };
        for digit in 0..4 {
            let name: RunnerName = format!("app-00000000000{digit}").parse().unwrap();
            keep(&failed, base.path(), &name, "why", &rules).unwrap();
            let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(digit);
            let kept = File::options()
                .write(true)
                .open(failed.join(format!("{name}.log")));
            if let Ok(kept) = kept {
                kept.set_modified(at).unwrap();
            }
        }
        let mut names = crate::files::names(&failed).unwrap();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(names[2], "notes.log");
        let text = fs::read_to_string(failed.join(&names[0])).unwrap();
        assert_eq!(text, "why\n6789");
    }
}
