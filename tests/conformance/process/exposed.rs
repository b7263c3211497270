//! What others can read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use runner_manager_conformance::{Exposure, Place};
use runner_manager_core::RunnerName;

use crate::site::{CLAIMS, Site};

const OTHERS_READ: u32 = 0o044;
const OTHERS_PASS: u32 = 0o011;

pub(crate) fn exposed(site: &Site, name: &RunnerName, place: Place) -> Vec<Exposure> {
    match place {
        Place::Arguments => arguments(),
        Place::Files => {
            let mut found = Vec::new();
            readable(&site.work_dir(), &mut found);
            readable(Path::new(CLAIMS), &mut found);
            found
        }
        Place::Metadata => named(site, name),
    }
}

/// The arguments of every process of this machine; `/proc` shows them to everybody.
fn arguments() -> Vec<Exposure> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(text) = fs::read(entry.path().join("cmdline")) {
            let place = format!("arguments of process {}", entry.path().display());
            found.push(Exposure { place, text });
        }
    }
    found
}

/// Files that others may read, in folders that others may pass.
fn readable(folder: &Path, found: &mut Vec<Exposure>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // What is deleted meanwhile is read by nobody.
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = meta.permissions().mode();
        if meta.is_dir() && mode & OTHERS_PASS != 0 {
            readable(&path, found);
        } else if meta.is_file()
            && mode & OTHERS_READ != 0
            && let Ok(text) = fs::read(&path)
        {
            let place = path.display().to_string();
            found.push(Exposure { place, text });
        }
    }
}

/// A process's only metadata: what `/proc` shows of it to everybody.
fn named(site: &Site, name: &RunnerName) -> Vec<Exposure> {
    let mut found = Vec::new();
    for process in site.processes(|of| of == name) {
        for file in ["environ", "cgroup", "status", "comm"] {
            let path = Path::new("/proc").join(process.pid.to_string()).join(file);
            let mode = fs::metadata(&path).map_or(0, |meta| meta.permissions().mode());
            if mode & OTHERS_READ != 0 {
                let place = path.display().to_string();
                let text = fs::read(&path).unwrap_or_default();
                found.push(Exposure { place, text });
            }
        }
    }
    found
}
