//! Everything that can fail before a launch fails here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use runner_manager_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

use crate::api::file_error;
use crate::cgroup::Cgroups;
use crate::config::{ProcessConfig, Source};
use crate::disk::DiskWatch;
use crate::files::{self, closed_parent, make_dir_all};
use crate::host::Host;
use crate::record::Record;
use crate::scan::Scanner;
use crate::users::{RUN_DIR, Users};
use crate::{runner_folder, tarball};

/// The programs of util-linux and coreutils that the launcher runs.
const PROGRAMS: [&str; 7] = [
    "setsid", "env", "date", "unshare", "mount", "mkdir", "setpriv",
];
/// The first of them are enough without root.
const WITHOUT_ROOT: usize = 3;

/// Where the launcher keeps folders while it covers the place where they are: within its own
/// mount namespace, so that all launchers may use it at once.
pub(crate) fn stage() -> PathBuf {
    Path::new(RUN_DIR).join("stage")
}

pub(crate) fn connect(config: ProcessConfig) -> Result<Host> {
    let source = config.validate()?;
    let root = rustix::process::geteuid().is_root();
    let setsid = find_programs(root)?;
    let work_dir = open_work_dir(&config.work_dir, root)?;
    let realm = tarball::hex(&Sha256::digest(work_dir.as_os_str().as_encoded_bytes())[..8]);
    let users = if root {
        Some(connect_users(&config, &realm)?)
    } else {
        None
    };
    let cgroups = connect_cgroups(&config, &realm, root)?;
    let boot_id = read_boot_id()?;
    if let Err(error) = files::check_free(&work_dir, config.min_free_bytes) {
        // Not a failure: the runners that exist want to be looked after.
        tracing::warn!(%error, "no runner can be launched");
    }
    let shared = shared_folder(&source, &work_dir, root)?;
    let host = Host {
        config,
        work_dir,
        shared,
        realm,
        users,
        cgroups,
        boot_id,
        setsid,
        scanner: Scanner::default(),
        disk: DiskWatch::default(),
    };
    claim_again(&host)?;
    Ok(host)
}

/// Looks for all programs, and says where the first of them is.
fn find_programs(root: bool) -> Result<PathBuf> {
    let count = if root { PROGRAMS.len() } else { WITHOUT_ROOT };
    let mut first = None;
    for program in &PROGRAMS[..count] {
        let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
        let mut paths = folders.iter().map(|folder| Path::new(folder).join(program));
        let Some(path) = paths.find(|path| path.exists()) else {
            let message =
                format!("the program `{program}` is missing; install util-linux and coreutils");
            return Err(Error::new(ErrorKind::Local, message));
        };
        first.get_or_insert(path);
    }
    Ok(first.unwrap_or_default())
}

/// Makes the work folder and what it always holds, and checks whose it is.
fn open_work_dir(path: &Path, root: bool) -> Result<PathBuf> {
    let named = |error: Error| error.with_context("key", "work_dir");
    let mode = if root { 0o711 } else { 0o700 };
    make_dir_all(path, 0o755).map_err(named)?;
    let path = path
        .canonicalize()
        .map_err(|error| named(file_error("open the work folder", path, error)))?;
    if path.to_str().is_none() {
        let message = "the path is not UTF-8; choose another folder";
        return Err(named(Error::new(ErrorKind::InvalidConfig, message)));
    }
    let fail = |error| named(file_error("look at the work folder", &path, error));
    refuse_foreign(&path).map_err(named)?;
    let meta = fs::metadata(&path).map_err(fail)?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        let message = "the work folder belongs to another user; choose another, or give it to \
                       the manager's user";
        return Err(named(Error::new(ErrorKind::PermissionDenied, message))
            .with_context("path", path.display())
            .with_context("owner", meta.uid()));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(fail)?;
    for (folder, mode) in [(".locks", 0o700), ("failed", 0o700), (".runner", 0o755)] {
        make_dir_all(&path.join(folder), mode).map_err(named)?;
    }
    if root {
        refuse_closed(&path, "work_dir")?;
    }
    Ok(path)
}

/// Refuses a folder that somebody uses for something else: its mode is about to be changed.
fn refuse_foreign(path: &Path) -> Result<()> {
    let names = files::names(path)?;
    if names.is_empty() || names.iter().any(|name| name == ".locks") {
        return Ok(());
    }
    let message = "the work folder holds other things; choose an empty or a new one";
    Err(Error::new(ErrorKind::InvalidConfig, message).with_context("path", path.display()))
}

/// Refuses a path that the runners' users cannot reach.
fn refuse_closed(path: &Path, key: &'static str) -> Result<()> {
    match closed_parent(path) {
        None => Ok(()),
        Some(parent) => {
            let message = "the runners' users cannot pass a parent of it; choose another place, or \
                           let others pass (chmod o+x)";
            Err(Error::new(ErrorKind::PermissionDenied, message)
                .with_context("key", key)
                .with_context("path", path.display())
                .with_context("parent", parent.display()))
        }
    }
}

fn connect_users(config: &ProcessConfig, realm: &str) -> Result<Users> {
    let run = Path::new(RUN_DIR);
    let users = Users::new(run, realm, config.first_uid, config.uid_count)?;
    let passwd = Path::new("/etc/passwd");
    let known = fs::read_to_string(passwd).map_err(|e| file_error("read", passwd, e))?;
    users.refuse_known(&known)?;
    for folder in ["folder", "runner"] {
        make_dir_all(&stage().join(folder), 0o755)?;
    }
    Ok(users)
}

fn connect_cgroups(config: &ProcessConfig, realm: &str, root: bool) -> Result<Option<Cgroups>> {
    if root {
        return Cgroups::connect(realm, &config.limits);
    }
    if config.limits == crate::config::Limits::default() {
        return Ok(None);
    }
    let message = "limits need cgroups, and those need root; start the manager as root, or remove \
                   the limits";
    Err(Error::new(ErrorKind::InvalidConfig, message).with_context("key", "limits"))
}

fn read_boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|error| file_error("read", path, error))?;
    Ok(text.trim().to_owned())
}

fn shared_folder(source: &Source, work_dir: &Path, root: bool) -> Result<PathBuf> {
    match source {
        Source::Folder(path) => {
            runner_folder::check(path, "runner_dir")?;
            let path = path
                .canonicalize()
                .map_err(|error| file_error("open the runner folder", path, error))?;
            if root {
                refuse_closed(&path.join("bin"), "runner_dir")?;
            }
            Ok(path)
        }
        Source::Tarball { path, sha256 } => {
            let shared = work_dir.join(".runner");
            tarball::unpack(path, sha256, &shared, &work_dir.join(".locks"))
        }
    }
}

/// Claims the users of the runners that exist, should the claims be lost.
fn claim_again(host: &Host) -> Result<()> {
    let Some(users) = &host.users else {
        return Ok(());
    };
    for text in files::names(&host.work_dir)? {
        let Ok(name) = text.parse() else { continue };
        if let Some(Record { uid: Some(uid), .. }) = host.record(&name)? {
            users.try_claim(uid, &name)?;
        }
    }
    Ok(())
}
