//! Bringing a runner into each of the backend's native states.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use runner_manager_core::{CloudRunnerState, RunnerName};
use rustix::fs::FlockOperation;
use serde_json::Value;

use crate::site::{Process, Site};

pub(crate) const STATES: [(&str, CloudRunnerState); 7] = [
    ("preparing", CloudRunnerState::Created),
    ("running", CloudRunnerState::Active),
    ("exited", CloudRunnerState::Stopped),
    ("abandoned", CloudRunnerState::Error),
    ("over disk", CloudRunnerState::Error),
    ("vanished", CloudRunnerState::Error),
    ("rebooted", CloudRunnerState::Error),
];

/// More than the harness lets a runner use.
const TOO_MUCH: usize = 70 << 20;

/// Does something with the listener, once it is there.
fn with_listener<T>(site: &Site, name: &RunnerName, act: impl FnOnce(&Process) -> T) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let processes = site.processes(|of| of == name);
        let mut listeners = processes.iter().filter(|p| p.program == "Runner.Listener");
        match listeners.next() {
            Some(listener) => return act(listener),
            None => assert!(Instant::now() < end, "{name} has no listener"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the listener, and with it the runner program; the wrapper notes how.
pub(crate) fn end_runner(site: &Site, name: &RunnerName) {
    with_listener(site, name, Process::kill);
}

/// Forces a state; what is given back must be kept for as long as it lasts.
pub(crate) fn force(site: &Site, name: &RunnerName, native: &str) -> Option<File> {
    let folder = site.folder(name);
    // What is still being started would go on past it.
    with_listener(site, name, |_| ());
    match native {
        "preparing" => {
            fs::remove_file(folder.join("started")).unwrap();
            let lock = site.work_dir().join(".locks").join(name.to_string());
            let lock = File::options()
                .create(true)
                .append(true)
                .open(lock)
                .unwrap();
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
            return Some(lock);
        }
        "exited" => end_runner(site, name),
        "abandoned" => {
            site.kill(name);
            fs::remove_file(folder.join("started")).unwrap();
        }
        "over disk" => fs::write(folder.join("home/large"), vec![1; TOO_MUCH]).unwrap(),
        "vanished" => site.kill(name),
        "rebooted" => change_record(&folder, |record| record["boot_id"] = "another".into()),
        _ => {}
    }
    None
}

fn change_record(folder: &Path, change: impl FnOnce(&mut Value)) {
    let path = folder.join("instance.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}
