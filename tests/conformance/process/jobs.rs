//! Jobs: lines in the pipe of the stand-in runner.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use runner_manager_conformance::JobFate;
use runner_manager_core::RunnerName;

use crate::site::Site;

/// Opens the file in which the worker says that it has begun, for as long as a look at it is
/// wanted: it can be read when the runner's folder is gone.
pub(crate) fn prepare(home: &Path) -> Option<File> {
    let path = home.join("begun");
    let mut open = fs::OpenOptions::new();
    let file = open.read(true).append(true).create(true).open(&path).ok()?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).ok()?;
    Some(file)
}

/// Whether the runner took the offer: it has a pipe, and listens.
pub(crate) fn offer(home: &Path) -> bool {
    let mut open = fs::OpenOptions::new();
    // Refused until the runner reads.
    open.write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    let pipe = open.open(home.join("jobs"));
    pipe.is_ok_and(|mut pipe| pipe.write_all(b"job\n").is_ok())
}

pub(crate) fn fate(site: &Site, name: &RunnerName, begun: &mut File) -> JobFate {
    let mut text = String::new();
    begun.rewind().unwrap();
    begun.read_to_string(&mut text).unwrap();
    if text.is_empty() {
        return JobFate::NotBegun;
    }
    let processes = site.processes(|of| of == name);
    if processes.iter().any(|p| p.program == "Runner.Worker") {
        JobFate::Runs
    } else {
        JobFate::Killed
    }
}
