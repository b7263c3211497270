//! What others can read of a runner.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::MultiGzDecoder;
use runner_manager_conformance::{Exposure, Place, Seen};
use runner_manager_core::RunnerName;
use serde_json::json;

use crate::harness::Ec2Harness;

/// The largest file that is read.
const MOST: u64 = 4 << 20;

pub(crate) async fn exposed(
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
            for instance in &instances {
                found.push(user_data(harness, instance).await);
            }
        }
    }
    Ok(found)
}

/// What EC2 shows to whoever is on an instance.
async fn user_data(harness: &Ec2Harness, instance: &str) -> Exposure {
    let arguments = json!({"InstanceId": instance, "Attribute": "userData"});
    let shown = harness
        .site
        .ec2("describe_instance_attribute", arguments)
        .await;
    let encoded = shown["UserData"]["Value"].as_str().unwrap_or_default();
    let data = STANDARD.decode(encoded).expect("base64");
    let text = if data.starts_with(&[0x1f, 0x8b]) {
        let mut text = Vec::new();
        let read = MultiGzDecoder::new(data.as_slice()).read_to_end(&mut text);
        read.expect("gzip");
        text
    } else {
        data
    };
    assert!(!text.is_empty(), "{instance} has no user-data");
    Exposure {
        place: "user-data".into(),
        text,
    }
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
