//! What others can read of a runner.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use runner_manager_conformance::{Cannot, Exposure, Place, Seen};
use runner_manager_core::RunnerName;

use crate::harness::Ec2Harness;

/// The largest file that is read.
const MOST: u64 = 4 << 20;

pub(crate) fn exposed(
    harness: &Ec2Harness,
    name: &RunnerName,
    place: Place,
) -> Seen<Vec<Exposure>> {
    let wanted = name.to_string();
    let instances = harness.machines.named(|name| *name == wanted);
    let mut found = Vec::new();
    match place {
        Place::Arguments => {
            for instance in &instances {
                for (pid, _) in harness.machines.processes(instance) {
                    arguments(&pid.to_string(), &mut found);
                }
            }
            arguments("self", &mut found);
        }
        Place::Files => {
            for instance in &instances {
                if let Some(folder) = harness.machines.written(instance) {
                    files(&folder, &mut found);
                }
            }
            files(&harness.base.join("keys"), &mut found);
        }
        Place::Metadata => {
            return Err(Cannot(
                "a credential that is not claimed stands in user-data, which EC2 shows to its instance",
            ));
        }
    }
    Ok(found)
}

fn arguments(pid: &str, found: &mut Vec<Exposure>) {
    if let Ok(text) = fs::read(format!("/proc/{pid}/cmdline")) {
        found.push(Exposure {
            place: format!("the arguments of process {pid}"),
            text,
        });
    }
}

/// The files below a folder that others than their owner may read, and reach.
fn files(folder: &Path, found: &mut Vec<Exposure>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.path().symlink_metadata() else {
            continue;
        };
        let mode = meta.permissions().mode();
        if meta.is_dir() && mode & 0o001 != 0 {
            files(&entry.path(), found);
        } else if meta.is_file() && mode & 0o004 != 0 && meta.len() <= MOST {
            found.push(Exposure {
                place: entry.path().display().to_string(),
                text: fs::read(entry.path()).unwrap_or_default(),
            });
        }
    }
}
