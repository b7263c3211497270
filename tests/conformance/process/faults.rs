//! What can go wrong between the backend and the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use runner_manager_conformance::{Cannot, Did, Fault};
use runner_manager_core::NamePrefix;

use crate::is_root;
use crate::site::{CLAIMS, Site, USERS};

const LOCAL: Cannot =
    Cannot("a call of the kernel is answered by the kernel itself: no answer is lost or late");
const WHOLE: Cannot = Cannot("a folder is listed by the kernel, which shows all of it");
const GUEST: Cannot = Cannot("the guest is the kernel's own table of processes");

/// How to end a fault.
#[derive(Debug)]
pub(crate) enum Undo {
    Rename { from: PathBuf, to: PathBuf },
    Remove(Vec<PathBuf>),
    RemoveTree(PathBuf),
    Unmount(PathBuf),
}

pub(crate) fn plant(site: &Site, prefix: &NamePrefix, fault: Fault) -> Result<Undo, Cannot> {
    match fault {
        Fault::Launch => Ok(rename(site.runner_dir(prefix).join("bin"))),
        Fault::LaunchMidway => Ok(nest(&site.runner_dir(prefix))),
        Fault::Quota if is_root() => Ok(claim_all(site)),
        Fault::Quota => Err(Cannot("without root there is no number of users to use up")),
        Fault::Terminate | Fault::TerminateMidway if is_root() => Ok(mount(site, prefix)),
        Fault::Terminate | Fault::TerminateMidway => {
            Err(Cannot("only root can mount a file system"))
        }
        Fault::List | Fault::Down => Ok(rename(site.work_dir())),
        Fault::LaunchAfterEffect
        | Fault::LaunchHangs
        | Fault::TerminateAfterEffect
        | Fault::Throttle
        | Fault::Hang => Err(LOCAL),
        Fault::ListTruncated | Fault::ListStale => Err(WHOLE),
        Fault::Guest | Fault::GuestUnreachable | Fault::GuestHangs => Err(GUEST),
    }
}

fn rename(from: PathBuf) -> Undo {
    let to = from.with_extension("gone");
    fs::rename(&from, &to).unwrap();
    Undo::Rename { from, to }
}

/// Folders in folders, deeper than the backend copies.
fn nest(runner_dir: &Path) -> Undo {
    let top = runner_dir.join("bin/zz");
    let deep = (0..20).fold(top.clone(), |path, _| path.join("d"));
    fs::create_dir_all(deep).unwrap();
    Undo::RemoveTree(top)
}

/// Claims every user of the place that is free.
fn claim_all(site: &Site) -> Undo {
    let mut made = Vec::new();
    for uid in site.first_uid..site.first_uid + USERS {
        let path = Path::new(CLAIMS).join(uid.to_string());
        if !path.exists() {
            fs::write(&path, "somebody else\n").unwrap();
            made.push(path);
        }
    }
    Undo::Remove(made)
}

/// Mounts something in a runner's folder, which then cannot be removed.
fn mount(site: &Site, prefix: &NamePrefix) -> Undo {
    let names = fs::read_dir(site.work_dir()).unwrap().flatten();
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let name = names.find(|name| prefix.owned(name).is_some()).unwrap();
    let point = site.work_dir().join(name).join("home/mounted");
    fs::create_dir(&point).unwrap();
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]);
    assert!(mount.arg(&point).status().unwrap().success());
    Undo::Unmount(point)
}

impl Undo {
    pub(crate) fn undo(self) {
        match self {
            Self::Rename { from, to } => {
                // What a manager has made in its place meanwhile is empty.
                let _ = fs::remove_dir_all(&from);
                fs::rename(to, from).unwrap();
            }
            Self::Remove(paths) => paths.iter().for_each(|path| fs::remove_file(path).unwrap()),
            Self::RemoveTree(path) => fs::remove_dir_all(path).unwrap(),
            Self::Unmount(point) => {
                let umount = Command::new("umount").arg(&point).status();
                assert!(umount.unwrap().success());
            }
        }
    }
}

/// What can be left behind is made as a launch makes it.
pub(crate) fn leave(site: &Site, name: &str, kind: &str) -> Did {
    match kind {
        "folders" => fs::create_dir_all(site.work_dir().join(name).join("home")).unwrap(),
        "locks" => fs::write(site.work_dir().join(".locks").join(name), "").unwrap(),
        "cgroups" => match site.cgroups() {
            Some(realm) => fs::create_dir(realm.join(name)).unwrap(),
            None => return Err(Cannot("this machine has no cgroup v2 to write to")),
        },
        "users" => {
            let free = (site.first_uid..site.first_uid + USERS)
                .map(|uid| Path::new(CLAIMS).join(uid.to_string()))
                .find(|path| !path.exists());
            let text = format!("{} {name}\n", site.realm());
            fs::write(free.unwrap(), text).unwrap();
        }
        _ => unreachable!("{kind} is no kind of leftover"),
    }
    Ok(())
}
