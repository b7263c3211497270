//! The conformance suite against real processes of this machine.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runner_manager_backend_process::BACKEND;
use runner_manager_conformance::{Counts, Did, Fault, Harness};
use runner_manager_core::{
    BackendContext, Connected, CreateRunner, GitHubPath, GitHubRunnerConfig, InstanceId, Labels,
    NamePrefix, Result, RunnerCredential, RunnerName, Secret, SupportServiceConfig, SystemClock,
    Timings,
};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::json;

/// Listens until it is killed; a line in the pipe is a job.
const RUN_SH: &str = r#"#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
mkfifo "$HOME/jobs"
"$here/bin/Runner.Listener" 6000 &
read -r job <"$HOME/jobs" && "$here/bin/Runner.Worker" 6000 &
wait
"#;

/// A process of a runner.
struct Process {
    pid: i32,
    program: String,
    of: String,
}

/// One work folder for all prefixes, and a runner folder for each.
struct ProcessHarness {
    base: tempfile::TempDir,
    /// What keeps a folder from being removed, by prefix.
    mounts: Mutex<BTreeMap<String, PathBuf>>,
}

impl ProcessHarness {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            base,
            mounts: Mutex::default(),
        }
    }

    fn work_dir(&self) -> PathBuf {
        self.base.path().join("work")
    }

    fn folder(&self, name: &RunnerName) -> PathBuf {
        self.work_dir().join(name.to_string())
    }

    fn runner_dir(&self, prefix: &NamePrefix) -> PathBuf {
        let folder = self.base.path().join(format!("runner-{prefix}"));
        if !folder.exists() {
            fs::create_dir_all(folder.join("bin")).unwrap();
            for script in ["run.sh", "config.sh"] {
                fs::write(folder.join(script), RUN_SH).unwrap();
            }
            for program in ["Runner.Listener", "Runner.Worker"] {
                fs::copy("/bin/sleep", folder.join("bin").join(program)).unwrap();
            }
            for path in ["", "bin", "run.sh", "config.sh"] {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(folder.join(path), mode).unwrap();
            }
        }
        folder
    }

    /// The processes of the runners that `ours` picks, by the home of each.
    fn processes(&self, ours: impl Fn(&RunnerName) -> bool) -> Vec<Process> {
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

    fn kill(&self, name: &RunnerName) {
        loop {
            let all = self.processes(|of| of == name);
            if all.is_empty() {
                return;
            }
            for process in all {
                // It may have ended by itself.
                let _ = kill_process(Pid::from_raw(process.pid).unwrap(), Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How many entries of a folder are named like runners of a prefix.
fn entries(folder: &Path, prefix: &NamePrefix) -> usize {
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| prefix.owned(name).is_some()).count()
}

/// Looks again and again, for half a minute.
async fn eventually(mut look: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(30);
    while !look() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

#[async_trait]
impl Harness for ProcessHarness {
    fn scheme(&self) -> &'static str {
        "process"
    }

    async fn manager(&self, prefix: &NamePrefix, timings: &Timings) -> Result<Connected> {
        let context = BackendContext {
            prefix: prefix.clone(),
            timings: timings.clone(),
            clock: Arc::new(SystemClock),
        };
        let section = json!({
            "work_dir": self.work_dir(),
            "runner_dir": self.runner_dir(prefix),
            "first_uid": 77_000,
            "uid_count": 500,
            "min_free_bytes": 0,
        });
        (BACKEND.connect)(context, section).await
    }

    fn request(&self, id: InstanceId) -> CreateRunner {
        CreateRunner {
            id,
            credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
            github: GitHubRunnerConfig {
                github_path: GitHubPath::parse("octo", Some("my group; $(id)")).unwrap(),
                labels: Labels::parse(["linux", "x64", "a@b=c"]).unwrap(),
            },
            support: SupportServiceConfig::default(),
        }
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let mut counts = Counts::new();
        let (work, mine) = (self.work_dir(), |name: &RunnerName| name.prefix() == prefix);
        counts.insert("folders", entries(&work, prefix));
        counts.insert("locks", entries(&work.join(".locks"), prefix));
        let alive: BTreeSet<String> = self.processes(mine).into_iter().map(|p| p.of).collect();
        counts.insert("runners with processes", alive.len());
        let mut groups = 0;
        for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let realms = fs::read_dir(Path::new(mount).join("runner-manager"));
            for realm in realms.into_iter().flatten().flatten() {
                groups += entries(&realm.path(), prefix);
            }
        }
        counts.insert("cgroups", groups);
        let claims = fs::read_dir("/run/runner-manager/users")
            .into_iter()
            .flatten();
        let claims = claims
            .flatten()
            .filter_map(|claim| fs::read_to_string(claim.path()).ok());
        let text = format!("/{prefix}-");
        counts.insert(
            "users",
            claims.filter(|claim| claim.contains(&text)).count(),
        );
        counts
    }

    async fn start_job(&self, name: &RunnerName) -> Did {
        let pipe = self.folder(name).join("home/jobs");
        let begun = eventually(|| {
            // Refused until the runner reads.
            let mut open = fs::OpenOptions::new();
            open.write(true)
                .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
            open.open(&pipe)
                .is_ok_and(|mut pipe| pipe.write_all(b"job\n").is_ok())
        });
        assert!(begun.await, "{name} takes no job");
        let is_worker = |process: &Process| process.program == "Runner.Worker";
        let runs = eventually(|| self.processes(|of| of == name).iter().any(is_worker));
        assert!(runs.await, "the job of {name} does not begin");
        Did::Done
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        self.kill(name);
        Did::Done
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        self.kill(name);
        fs::remove_dir_all(self.folder(name)).unwrap();
        Did::Done
    }

    async fn leave_leftover(&self, name: &RunnerName) -> Did {
        fs::create_dir_all(self.folder(name).join("home")).unwrap();
        Did::Done
    }

    async fn make_stranger(&self, _: &RunnerName) -> Did {
        Did::Cannot(
            "the work folder is the manager's own, and so is what is named like a runner in it",
        )
    }

    async fn take_stranger(&self, _: &RunnerName) -> bool {
        false
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        match fault {
            Fault::Launch => {
                let folder = self.runner_dir(prefix);
                fs::rename(folder.join("bin"), folder.join("gone")).unwrap();
                Did::Done
            }
            Fault::Terminate if geteuid().is_root() => {
                let names = fs::read_dir(self.work_dir()).unwrap().flatten();
                let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
                let name = names.find(|name| prefix.owned(name).is_some()).unwrap();
                let point = self.work_dir().join(name).join("home/mounted");
                fs::create_dir(&point).unwrap();
                let mut mount = Command::new("mount");
                mount
                    .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
                    .arg(&point);
                assert!(mount.status().unwrap().success(), "root may mount");
                self.mounts
                    .lock()
                    .unwrap()
                    .insert(prefix.to_string(), point);
                Did::Done
            }
            Fault::Terminate => Did::Cannot("only root can keep a folder from being removed"),
            Fault::LaunchAfterEffect | Fault::LaunchHangs => {
                Did::Cannot("a launch is local: its answer can be neither lost nor late")
            }
            Fault::List => {
                Did::Cannot("a list is a look into the work folder, which all cases share")
            }
            Fault::Guest => Did::Cannot("the guest is the kernel's own table of processes"),
        }
    }

    async fn mend(&self, prefix: &NamePrefix) {
        let folder = self.runner_dir(prefix);
        if folder.join("gone").exists() {
            fs::rename(folder.join("gone"), folder.join("bin")).unwrap();
        }
        let point = self.mounts.lock().unwrap().remove(prefix.as_str());
        if let Some(point) = point {
            let umount = Command::new("umount").arg(&point).status();
            assert!(
                umount.unwrap().success(),
                "what was mounted can be unmounted"
            );
        }
    }

    fn list_calls(&self, _: &NamePrefix) -> Option<usize> {
        None
    }
}

fn main() -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(ProcessHarness::new());
    runner_manager_conformance::main(&harness)
}
