//! The users of runners: numbers from a range, never two live runners with one.
//!
//! A claim is a file named like the number, in a folder that all managers of this machine
//! share and that the machine's start empties. Its text says whose it is.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, Result, Retry, RunnerName};

use crate::api::file_error;

/// The shared folder of all claims.
pub(crate) const RUN_DIR: &str = "/run/runner-manager";

/// The range of one manager, and what it has claimed of it.
#[derive(Debug)]
pub(crate) struct Users {
    claims: PathBuf,
    realm: String,
    first: u32,
    count: u32,
}

/// One claim of this manager's work folder.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) uid: u32,
    pub(crate) name: String,
    pub(crate) created_at: Option<Timestamp>,
}

impl Users {
    pub(crate) fn new(run_dir: &Path, realm: &str, first: u32, count: u32) -> Result<Self> {
        let claims = run_dir.join("users");
        crate::files::make_dir_all(&claims, 0o700)?;
        Ok(Self {
            claims,
            realm: realm.to_owned(),
            first,
            count,
        })
    }

    /// Refuses a range that holds a user of this machine.
    pub(crate) fn refuse_known(&self, passwd: &str) -> Result<()> {
        let range = self.first..self.first + self.count;
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let (user, uid) = (fields.next(), fields.nth(1));
            if uid
                .and_then(|uid| uid.parse().ok())
                .is_some_and(|uid| range.contains(&uid))
            {
                let message = "the users' range holds a user of this machine; choose another range";
                return Err(Error::new(ErrorKind::InvalidConfig, message)
                    .with_context("key", "first_uid")
                    .with_context("user", user.unwrap_or_default()));
            }
        }
        Ok(())
    }

    /// Takes a number that no live runner of this machine has, and that is free: no process has it.
    pub(crate) fn claim(&self, name: &RunnerName, is_free: impl Fn(u32) -> bool) -> Result<u32> {
        // Spread out, so that a number rests for long before it is used again.
        let id = u64::from_str_radix(name.instance_id().as_str(), 16).unwrap_or_default();
        let offset = u32::try_from(id % u64::from(self.count)).unwrap_or_default();
        for step in 0..self.count {
            let uid = self.first + (offset + step) % self.count;
            if is_free(uid) && self.try_claim(uid, name)? {
                return Ok(uid);
            }
        }
        let message =
            "every user of the range belongs to a live runner or process; raise `uid_count`";
        Err(Error::new(ErrorKind::QuotaExceeded, message)
            .with_retry(Retry::After(std::time::Duration::from_secs(30)))
            .with_context("first_uid", self.first)
            .with_context("uid_count", self.count))
    }

    /// Claims one number; false when it is taken.
    pub(crate) fn try_claim(&self, uid: u32, name: &RunnerName) -> Result<bool> {
        let path = self.claims.join(uid.to_string());
        let attempt = || -> io::Result<bool> {
            if path.exists() {
                return Ok(false);
            }
            let mut file = tempfile::NamedTempFile::new_in(&self.claims)?;
            file.write_all(self.owner(name).as_bytes())?;
            match file.persist_noclobber(&path) {
                Ok(_) => Ok(true),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error.error),
            }
        };
        attempt().map_err(|error| file_error("claim a user", &path, error))
    }

    /// Gives a number back, if it is this runner's.
    pub(crate) fn release(&self, uid: u32, name: &RunnerName) -> Result<()> {
        let path = self.claims.join(uid.to_string());
        match std::fs::read_to_string(&path) {
            Ok(text) if text == self.owner(name) => std::fs::remove_file(&path)
                .map_err(|error| file_error("give a user back", &path, error)),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(file_error("read a user's claim", &path, error)),
        }
    }

    /// All claims of this manager's work folder.
    pub(crate) fn claimed(&self) -> Result<Vec<Claim>> {
        let fail = |error| file_error("list the users' claims", &self.claims, error);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.claims).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Some(uid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            // One that is given back meanwhile is none.
            let Ok(text) = std::fs::read_to_string(entry.path()) else {
                continue;
            };
            let Some((realm, name)) = text.trim_end().split_once(' ') else {
                continue;
            };
            if realm == self.realm {
                found.push(Claim {
                    uid,
                    name: name.to_owned(),
                    created_at: crate::files::modified(&entry.path()),
                });
            }
        }
        Ok(found)
    }

    /// How many runners can have a user at once.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    fn owner(&self, name: &RunnerName) -> String {
        format!("{} {name}\n", self.realm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_never_shared_and_come_back() {
        let run = tempfile::tempdir().unwrap();
        let ours = Users::new(run.path(), "aa", 70_000, 2).unwrap();
        let theirs = Users::new(run.path(), "bb", 70_000, 2).unwrap();
        let a: RunnerName = "app-000000000000".parse().unwrap();
        let b: RunnerName = "app-000000000002".parse().unwrap();
        let (first, second) = (
            ours.claim(&a, |_| true).unwrap(),
            theirs.claim(&b, |_| true).unwrap(),
        );
        assert_eq!((first, second), (70_000, 70_001));
        let full = ours.claim(&b, |_| true).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::QuotaExceeded);
        assert_eq!(ours.claimed().unwrap().len(), 1);
        ours.release(second, &b).unwrap();
        assert_eq!(theirs.claimed().unwrap().len(), 1, "gave back another's");
        ours.release(first, &a).unwrap();
        assert_eq!(ours.claim(&b, |_| true).unwrap(), 70_000);
    }

    #[test]
    fn a_range_with_users_of_the_machine_is_refused() {
        let run = tempfile::tempdir().unwrap();
        let users = Users::new(run.path(), "aa", 70_000, 2).unwrap();
        users
            .refuse_known("root:x:0:0::/root:/bin/sh\nz:x:70002:1::/:/\n")
            .unwrap();
        let error = users.refuse_known("ann:x:70001:1::/:/\n").unwrap_err();
        assert_eq!(error.context("user"), Some("ann"));
    }
}
