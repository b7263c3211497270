//! Control groups, version 2: limits, freezing, and killing whole trees.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use procfs::process::Process;
use runner_manager_core::{Error, ErrorKind, Result, RunnerName};

use crate::api::{file_error, late};
use crate::config::Limits;

/// Where this manager's runners have their groups: `runner-manager/{realm}/{name}`.
#[derive(Debug)]
pub(crate) struct Cgroups {
    realm: PathBuf,
    limits: Limits,
}

/// Where version 2 is mounted: at the root, or beside version 1.
pub(crate) fn mount_point() -> Option<PathBuf> {
    let mounts = Process::myself().and_then(|me| me.mountinfo()).ok()?;
    mounts
        .0
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2")
        .map(|mount| mount.mount_point)
}

/// The limits asked for, with the controller and the files of each.
fn wanted(limits: &Limits) -> Vec<(&'static str, &'static str, &'static str, String)> {
    let mut wanted = Vec::new();
    if let Some(bytes) = limits.memory_bytes {
        let text = bytes.to_string();
        wanted.push(("limits.memory_bytes", "memory", "memory.max", text));
    }
    if let Some(micros) = limits.cpu_quota_micros() {
        let text = format!("{micros} 100000");
        wanted.push(("limits.cpu_cores", "cpu", "cpu.max", text));
    }
    if let Some(tasks) = limits.tasks {
        wanted.push(("limits.tasks", "pids", "pids.max", tasks.to_string()));
    }
    wanted
}

/// Refuses a limit whose controller is not offered.
fn refuse_missing(limits: &Limits, offered: &str, place: &str) -> Result<()> {
    for (key, controller, _, _) in wanted(limits) {
        if !offered.split_whitespace().any(|have| have == controller) {
            let message = format!(
                "needs the `{controller}` controller of cgroup v2, which {place} does not offer; \
                 start the machine with cgroup v2 alone, or remove the limit"
            );
            return Err(Error::new(ErrorKind::InvalidConfig, message)
                .with_context("key", key)
                .with_context("offered", offered.trim()));
        }
    }
    Ok(())
}

impl Cgroups {
    /// Prepares the groups' parent. `None` where there is no version 2 that can be written and
    /// no limit asks for one.
    pub(crate) fn connect(realm: &str, limits: &Limits) -> Result<Option<Self>> {
        let Some(mount) = mount_point() else {
            refuse_missing(limits, "", "this machine")?;
            return Ok(None);
        };
        let offered = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        refuse_missing(limits, &offered, &mount.display().to_string())?;
        let parent = mount.join("runner-manager");
        let realm = parent.join(realm);
        let made = fs::create_dir_all(&realm).map_err(|e| file_error("make the cgroup", &realm, e));
        match made {
            Ok(()) => {}
            Err(error) if wanted(limits).is_empty() => {
                tracing::warn!(%error, "runners get no cgroup");
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
        for (_, controller, _, _) in wanted(limits) {
            for folder in [&mount, &parent, &realm] {
                let file = folder.join("cgroup.subtree_control");
                fs::write(&file, format!("+{controller}"))
                    .map_err(|e| file_error("enable a controller in", &file, e))?;
            }
        }
        Ok(Some(Self {
            realm,
            limits: limits.clone(),
        }))
    }

    /// The group of a runner, whether it exists or not.
    pub(crate) fn of(&self, name: &str) -> Cgroup {
        Cgroup(self.realm.join(name))
    }

    /// Makes the group of a runner, with its limits.
    pub(crate) fn create(&self, name: &RunnerName) -> Result<Cgroup> {
        let group = self.of(&name.to_string());
        // With its parents, should somebody have tidied them away while they were empty.
        fs::create_dir_all(&group.0).map_err(|e| file_error("make the cgroup", &group.0, e))?;
        for (_, _, file, text) in wanted(&self.limits) {
            let file = group.0.join(file);
            fs::write(&file, text).map_err(|e| file_error("set the limit", &file, e))?;
        }
        let swap = group.0.join("memory.swap.max");
        if self.limits.memory_bytes.is_some() && swap.exists() {
            fs::write(&swap, "0").map_err(|e| file_error("set the limit", &swap, e))?;
        }
        Ok(group)
    }

    /// The names of all groups.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        crate::files::names(&self.realm)
    }
}

/// The group of one runner.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The pids in it; none when it does not exist.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        let file = self.0.join("cgroup.procs");
        match fs::read_to_string(&file) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if is_gone(&error) => Ok(Vec::new()),
            Err(error) => Err(file_error("read", &file, error)),
        }
    }

    fn event(&self, key: &str) -> Result<bool> {
        let file = self.0.join("cgroup.events");
        match fs::read_to_string(&file) {
            Ok(text) => Ok(text.lines().any(|line| line == format!("{key} 1"))),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(file_error("read", &file, error)),
        }
    }

    /// Whether any process lives in it.
    pub(crate) fn is_populated(&self) -> Result<bool> {
        self.event("populated")
    }

    /// Whether it stands still, or is about to.
    pub(crate) fn is_freezing(&self) -> bool {
        fs::read_to_string(self.0.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
    }

    /// Freezes it and waits until all of it stands still.
    pub(crate) fn freeze(&self, deadline: Instant) -> Result<()> {
        self.set_frozen("1")?;
        while !self.event("frozen")? {
            if Instant::now() >= deadline {
                return Err(late("the cgroup does not freeze"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets it go on. One that is gone is fine.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.set_frozen("0")
    }

    fn set_frozen(&self, text: &str) -> Result<()> {
        let file = self.0.join("cgroup.freeze");
        match write_existing(&file, text) {
            Err(error) if !is_gone(&error) => Err(file_error("write", &file, error)),
            _ => Ok(()),
        }
    }

    /// Kills everything in it, at once where the kernel can (Linux 5.14).
    pub(crate) fn kill(&self) -> Result<()> {
        let file = self.0.join("cgroup.kill");
        match write_existing(&file, "1") {
            Ok(()) => Ok(()),
            Err(error) if is_gone(&error) => {
                for pid in self.pids()? {
                    if let Some(seen) = crate::scan::Seen::one(pid) {
                        crate::scan::signal(seen.id, rustix::process::Signal::KILL);
                    }
                }
                Ok(())
            }
            Err(error) => Err(file_error("write", &file, error)),
        }
    }

    /// Removes it, empty as it must be.
    pub(crate) fn remove(&self, deadline: Instant) -> Result<()> {
        loop {
            match fs::remove_dir(&self.0) {
                Ok(()) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                // The last process is not quite gone.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    if Instant::now() >= deadline {
                        let error = late("the cgroup stays busy");
                        return Err(error.with_context("path", self.0.display()));
                    }
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(file_error("remove the cgroup", &self.0, error)),
            }
        }
    }
}

/// `fs::write` would try to make an absent file.
fn write_existing(file: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    fs::OpenOptions::new()
        .write(true)
        .open(file)?
        .write_all(text.as_bytes())
}

/// A group that is removed while it is used answers either way.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_kernels_words() {
        let limits = Limits {
            memory_bytes: Some(1 << 30),
            cpu_cores: Some(1.5),
            tasks: Some(100),
        };
        let words: Vec<(&str, String)> = wanted(&limits)
            .into_iter()
            .map(|(_, _, file, text)| (file, text))
            .collect();
        let want = [
            ("memory.max", "1073741824"),
            ("cpu.max", "150000 100000"),
            ("pids.max", "100"),
        ];
        assert_eq!(words, want.map(|(file, text)| (file, text.to_owned())));
        assert!(refuse_missing(&limits, "cpu memory pids io", "x").is_ok());
        let error = refuse_missing(&limits, "hugetlb", "x").unwrap_err();
        assert_eq!(error.context("key"), Some("limits.memory_bytes"));
        assert!(refuse_missing(&Limits::default(), "", "x").is_ok());
    }
}
