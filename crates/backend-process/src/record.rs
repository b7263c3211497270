//! `instance.json`: what must be known of a runner after a crash.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use jiff::Timestamp;
use runner_manager_core::{Result, RunnerName};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::api::file_error;

/// How far the manager has come with a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Its folder is being filled; no process exists.
    Preparing,
    /// Its process exists; it does nothing before it hears `go`.
    Running,
    /// The manager stopped it.
    Stopped,
}

/// A process, by pid and start time: a pid alone is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// In clock ticks since the machine was started, field 22 of `/proc/PID/stat`.
    pub(crate) start: u64,
}

/// The content of `instance.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) name: RunnerName,
    pub(crate) created_at: Timestamp,
    pub(crate) phase: Phase,
    /// The runner's own user, where it has one.
    pub(crate) uid: Option<u32>,
    /// Which start of the machine `main` belongs to.
    pub(crate) boot_id: String,
    pub(crate) main: Option<Identity>,
}

const FILE: &str = "instance.json";
const MAX_BYTES: u64 = 16 * 1024;

impl Record {
    /// Reads the record of a folder. `None` when there is none, or none that is whole: a file
    /// that cannot be read is an error, so that nobody takes it for a leftover.
    pub(crate) fn load(folder: &Path, name: &RunnerName) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
                return Ok(None);
            }
            Err(error) => return Err(file_error("read the instance's record", &path, error)),
        };
        let mut text = String::new();
        match file.take(MAX_BYTES).read_to_string(&mut text) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            Err(error) => return Err(file_error("read the instance's record", &path, error)),
        }
        let record: Option<Self> = serde_json::from_str(&text).ok();
        Ok(record.filter(|record| record.name == *name))
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn store(&self, folder: &Path) -> Result<()> {
        let new = folder.join("instance.json.new");
        let write = || -> io::Result<()> {
            let flags = OFlags::WRONLY
                | OFlags::CREATE
                | OFlags::TRUNC
                | OFlags::NOFOLLOW
                | OFlags::CLOEXEC;
            let fd = rustix::fs::open(&new, flags, Mode::RUSR | Mode::WUSR)?;
            let text = serde_json::to_vec(self)?;
            File::from(fd).write_all(&text)?;
            std::fs::rename(&new, folder.join(FILE))
        };
        write().map_err(|error| file_error("write the instance's record", &new, error))
    }

    /// The backend's own id: the process, or the folder before there is one.
    pub(crate) fn native_id(&self) -> String {
        match self.main {
            Some(main) => format!("process:{}:{}", main.pid, main.start),
            None => format!("folder:{}", self.name),
        }
    }

    /// The name of the file, which is removed last from a folder.
    pub(crate) fn file_name() -> &'static str {
        FILE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RunnerName {
        text.parse().unwrap()
    }

    #[test]
    fn records_round_trip_and_anything_else_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let app = name("app-0123456789ab");
        assert_eq!(Record::load(folder.path(), &app).unwrap(), None);
        let record = Record {
            name: app.clone(),
            created_at: Timestamp::UNIX_EPOCH,
            phase: Phase::Running,
            uid: Some(70_000),
            boot_id: "b".into(),
            main: Some(Identity { pid: 7, start: 9 }),
        };
        record.store(folder.path()).unwrap();
        assert_eq!(Record::load(folder.path(), &app).unwrap(), Some(record));
        let other = name("app-ffffffffffff");
        assert_eq!(Record::load(folder.path(), &other).unwrap(), None);
        for bad in ["", "{", "[]", "\u{0}", r#"{"name":"app-0123456789ab"}"#] {
            std::fs::write(folder.path().join(FILE), bad).unwrap();
            assert_eq!(Record::load(folder.path(), &app).unwrap(), None, "{bad:?}");
        }
        std::fs::write(folder.path().join(FILE), [0xff, 0xfe]).unwrap();
        assert_eq!(Record::load(folder.path(), &app).unwrap(), None);
    }
}
