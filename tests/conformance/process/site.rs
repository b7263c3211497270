//! The place of one case: a work folder, and the stand-in runner's folder of each prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runner_manager_core::{NamePrefix, RunnerName};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};

use crate::lists::Lists;

/// Where the kernel may have cgroups of version 2.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where the backend claims users.
pub(crate) const CLAIMS: &str = "/run/runner-manager/users";
/// How many users one place has.
pub(crate) const USERS: u32 = 64;

/// The stand-in runner: it listens until it is killed; a line in the pipe is a job.
const RUN: &str = "#!/bin/sh
here=$(cd \"$(dirname \"$0\")\" && pwd)
mkfifo \"$HOME/jobs\"
\"$here/bin/Runner.Listener\" &
wait $!
";
const CONFIG: &str = "#!/bin/sh
printf '%s\\0' \"$@\" >\"$HOME/received\"
";
const LISTENER: &str = "#!/bin/sh
exec 3<>\"$HOME/jobs\"
while read -r job <&3; do
    \"$(dirname \"$0\")/Runner.Worker\" 3<&- &
done
";
const WORKER: &str = "#!/bin/sh
echo begun >>\"$HOME/begun\"
sleep 6000 &
wait $!
";

/// A process of a runner.
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) program: String,
    pub(crate) of: String,
}

impl Process {
    pub(crate) fn kill(&self) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_raw(self.pid).unwrap(), Signal::KILL);
    }
}

/// The place of all prefixes of one case.
pub(crate) struct Site {
    base: PathBuf,
    pub(crate) first_uid: u32,
    /// Under which its lists are counted.
    pub(crate) lists: i32,
}

impl Site {
    pub(crate) fn new(base: PathBuf, index: u32, lists: &Lists) -> Self {
        fs::create_dir(&base).unwrap();
        let work = base.join("work");
        fs::create_dir(&work).unwrap();
        Self {
            base,
            first_uid: 80_000 + index * USERS,
            lists: lists.add(&work),
        }
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        self.base.join("work")
    }

    pub(crate) fn folder(&self, name: &RunnerName) -> PathBuf {
        self.work_dir().join(name.to_string())
    }

    /// What the backend puts into names of what lies outside of the work folder.
    pub(crate) fn realm(&self) -> String {
        let digest = Sha256::digest(self.work_dir().as_os_str().as_encoded_bytes());
        digest[..8].iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The folders of this place's cgroups, where there are some.
    pub(crate) fn cgroups(&self) -> Option<PathBuf> {
        let mounts = CGROUPS.iter().map(Path::new);
        let realms = mounts.map(|mount| mount.join("runner-manager").join(self.realm()));
        realms.into_iter().find(|realm| realm.exists())
    }

    pub(crate) fn runner_dir(&self, prefix: &NamePrefix) -> PathBuf {
        let folder = self.base.join(format!("runner-{prefix}"));
        if !folder.exists() {
            fs::create_dir_all(folder.join("bin")).unwrap();
            for (file, text) in [
                ("run.sh", RUN),
                ("config.sh", CONFIG),
                ("bin/Runner.Listener", LISTENER),
                ("bin/Runner.Worker", WORKER),
            ] {
                fs::write(folder.join(file), text).unwrap();
            }
            for path in [
                "",
                "bin",
                "run.sh",
                "config.sh",
                "bin/Runner.Listener",
                "bin/Runner.Worker",
            ] {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(folder.join(path), mode).unwrap();
            }
        }
        folder
    }

    /// The processes of the runners that `ours` picks, by the home of each.
    pub(crate) fn processes(&self, ours: impl Fn(&RunnerName) -> bool) -> Vec<Process> {
        let work = self.work_dir();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
            let home = environ.split(|byte| *byte == 0).find_map(|pair| {
                let path = String::from_utf8_lossy(pair.strip_prefix(b"HOME=")?).into_owned();
                let below = Path::new(&path).strip_prefix(&work).ok()?.to_owned();
                below.iter().next()?.to_str()?.parse::<RunnerName>().ok()
            });
            if let Some(name) = home.filter(|name| ours(name)) {
                let program = fs::read_to_string(entry.path().join("comm"));
                found.push(Process {
                    pid,
                    program: program.unwrap_or_default().trim().to_owned(),
                    of: name.to_string(),
                });
            }
        }
        found
    }

    pub(crate) fn kill(&self, name: &RunnerName) {
        loop {
            let all = self.processes(|of| of == name);
            if all.is_empty() {
                return;
            }
            all.iter().for_each(Process::kill);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Counts what exists of a prefix, in the file system and the table of processes.
    pub(crate) fn count(&self, prefix: &NamePrefix) -> BTreeMap<&'static str, usize> {
        let work = self.work_dir();
        let processes = self.processes(|name| name.prefix() == prefix);
        let alive: BTreeSet<String> = processes.into_iter().map(|p| p.of).collect();
        let groups = self.cgroups().map_or(0, |realm| entries(&realm, prefix));
        let users = self.claims(|name| prefix.owned(name).is_some());
        BTreeMap::from([
            ("folders", entries(&work, prefix)),
            ("locks", entries(&work.join(".locks"), prefix)),
            ("runners with processes", alive.len()),
            ("cgroups", groups),
            ("users", users.len()),
        ])
    }

    /// The files with which this place claims users for runners that `ours` picks.
    pub(crate) fn claims(&self, ours: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let realm = self.realm();
        let entries = fs::read_dir(CLAIMS).into_iter().flatten().flatten();
        let ours = |path: &PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let name = text.trim_end().strip_prefix(&realm);
            name.is_some_and(|name| ours(name.trim_start()))
        };
        entries.map(|entry| entry.path()).filter(ours).collect()
    }
}

/// What this place has made outside of its folder.
impl Drop for Site {
    fn drop(&mut self) {
        if let Some(realm) = self.cgroups() {
            // Not when a failed case has left something in it.
            let _ = fs::remove_dir(realm);
        }
        for claim in self.claims(|_| true) {
            let _ = fs::remove_file(claim);
        }
    }
}

/// How many entries of a folder are named like runners of a prefix.
fn entries(folder: &Path, prefix: &NamePrefix) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| prefix.owned(name).is_some()).count()
}
