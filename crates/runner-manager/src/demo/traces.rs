//! What runners leave on this machine and on GitHub, found without asking the manager.

use std::fs;
use std::path::{Path, PathBuf};

use runner_manager_core::NamePrefix;
use runner_manager_github_sim::Sim;

/// Everything that is left of runners: processes, folders, registrations.
pub(crate) fn find(work_dir: &Path, prefix: &str, sim: &Sim) -> Vec<String> {
    let mut left: Vec<String> = sim
        .runners()
        .into_iter()
        .map(|runner| format!("registration {}", runner.name))
        .collect();
    left.extend(
        processes(work_dir)
            .into_iter()
            .map(|pid| format!("process {pid}")),
    );
    let Ok(prefix) = NamePrefix::new(prefix) else {
        return left;
    };
    let folders = fs::read_dir(work_dir)
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let names = folders.map(|folder| folder.file_name().to_string_lossy().into_owned());
    left.extend(
        names
            .filter(|n| prefix.owned(n).is_some())
            .map(|n| format!("folder {n}")),
    );
    left
}

/// The processes that run or work below a folder.
fn processes(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let below = |pid: u32, link: &str| {
        fs::read_link(format!("/proc/{pid}/{link}")).is_ok_and(|path| path.starts_with(folder))
    };
    pids.filter(|pid| below(*pid, "exe") || below(*pid, "cwd"))
        .collect()
}

/// Kills the listener of a runner, as a crash would. Answers whether one was found.
pub(crate) fn kill_listener(work_dir: &Path, runner: &str) -> bool {
    let folder: PathBuf = work_dir.join(runner);
    let is_listener = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == "Runner.Listener")
    };
    let Some(pid) = processes(&folder).into_iter().find(is_listener) else {
        return false;
    };
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok())
}
