//! The files that a runner leaves for the manager, and those that the manager leaves.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use runner_manager_conformance::{Planted, Received, trace};
use runner_manager_core::{ExchangeFile, RunnerName};
use rustix::fs::{CWD, Mode};

use crate::site::Site;

/// Valid metrics of every kind of file, behind a link.
fn valid(file: ExchangeFile) -> &'static str {
    match file {
        ExchangeFile::Installed => "1700000000\n",
        ExchangeFile::PreJob => {
            r#"{"timestamp":1700000000,"workflow":"a","workflow_run_id":"1","repository":"o/r","event":"push"}"#
        }
        ExchangeFile::PostJob => r#"{"timestamp":1700000000,"status":"normal"}"#,
    }
}

pub(crate) fn put(folder: &Path, file: ExchangeFile, what: Planted) {
    let exchange = folder.join("exchange");
    let path = exchange.join(file.file_name());
    let owner = fs::metadata(&exchange).unwrap();
    let own = |path: &PathBuf| chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
    let _ = fs::remove_file(&path);
    match what {
        Planted::Nothing => {}
        Planted::Bytes(bytes) => {
            fs::write(&path, bytes).unwrap();
            own(&path);
        }
        Planted::Symlink => {
            let target = folder.join("home").join(file.file_name());
            fs::write(&target, valid(file)).unwrap();
            own(&target);
            symlink(target, path).unwrap();
        }
        Planted::Endless => {
            rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
            own(&path);
        }
    }
}

/// What `config.sh` was called with.
pub(crate) fn received(site: &Site, name: &RunnerName) -> Option<Received> {
    let folder = site.folder(name);
    let text = fs::read_to_string(folder.join("home/received")).ok()?;
    let words: Vec<&str> = text.split_terminator('\0').collect();
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option)?;
        words.get(at + 1).copied()
    };
    let trace = trace(name);
    let file = trace.file_name().unwrap();
    let places = [trace.clone(), folder.join("tmp").join(file)];
    Some(Received {
        name: after("--name")?.to_owned(),
        labels: after("--labels")?.split(',').map(str::to_owned).collect(),
        group: after("--runnergroup").map(str::to_owned),
        traced: places.iter().any(|place| place.exists()),
    })
}
