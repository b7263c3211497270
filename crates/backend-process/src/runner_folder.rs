//! The runner program's folder of one runner.
//!
//! The runner finds its root from its own `bin` and writes `.runner`, `_diag` and `_work` into
//! it: each runner has a root and a `bin` of its own, made of links to the shared files.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::PoisonError;

use runner_manager_core::{Error, ErrorKind, Result};

use crate::api::file_error;
use crate::files::{STARTS, make_dir, own};

/// What an earlier use of the shared folder may have left: never taken over.
const STATE: [&str; 8] = [
    ".runner",
    ".runner_migrated",
    ".credentials",
    ".credentials_migrated",
    ".credentials_rsaparams",
    ".service",
    "_diag",
    "_work",
];

/// How deep folders within `bin` may be nested.
const MAX_DEPTH: usize = 16;

/// Checks that a folder looks like an unpacked `actions-runner`.
pub(crate) fn check(folder: &Path, key: &'static str) -> Result<()> {
    let refuse = |message: String| {
        Err(Error::new(ErrorKind::InvalidConfig, message)
            .with_context("key", key)
            .with_context("path", folder.display()))
    };
    match fs::metadata(folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return refuse("the runner folder is not a folder".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let message =
                "the runner folder does not exist; unpack the actions-runner archive there";
            return refuse(message.into());
        }
        Err(error) => return Err(file_error("look at the runner folder", folder, error)),
    }
    for (name, is_folder) in [("run.sh", false), ("config.sh", false), ("bin", true)] {
        let found = fs::metadata(folder.join(name));
        let fits = found.is_ok_and(|meta| {
            let runs = meta.permissions().mode() & 0o111 != 0;
            if is_folder {
                meta.is_dir()
            } else {
                meta.is_file() && runs
            }
        });
        if !fits {
            let kind = if is_folder {
                "folder"
            } else {
                "executable file"
            };
            return refuse(format!(
                "the runner folder has no {kind} `{name}`; unpack the actions-runner archive there"
            ));
        }
    }
    Ok(())
}

/// Fills the runner folder of one runner, for this user.
pub(crate) fn fill(shared: &Path, target: &Path, owner: Option<u32>) -> Result<()> {
    // It was whole at the start; a runner of half a folder would end at once, again and again.
    check(shared, "runner_dir")?;
    make_dir(target, 0o700, owner)?;
    for entry in entries(shared)? {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| STATE.contains(&name)) {
            continue;
        }
        let (from, to) = (entry.path(), target.join(&name));
        let meta = fs::symlink_metadata(&from).map_err(|e| file_error("read", &from, e))?;
        if name == "bin" || (meta.is_dir() && owner.is_some() && meta.mode() & 0o002 != 0) {
            copy_tree(&from, &to, owner, 0)?;
        } else if meta.is_dir() {
            symlink(&from, &to).map_err(|e| file_error("link", &to, e))?;
        } else {
            take(&from, &to, &meta, owner)?;
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>> {
    let fail = |error| file_error("list the runner folder", folder, error);
    fs::read_dir(folder)
        .and_then(Iterator::collect)
        .map_err(fail)
}

fn copy_tree(from: &Path, to: &Path, owner: Option<u32>, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        let message = "the runner folder is nested too deeply";
        return Err(
            Error::new(ErrorKind::InvalidConfig, message).with_context("path", from.display())
        );
    }
    make_dir(to, 0o700, owner)?;
    for entry in entries(from)? {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let meta = fs::symlink_metadata(&from).map_err(|e| file_error("read", &from, e))?;
        if meta.is_dir() {
            copy_tree(&from, &to, owner, depth + 1)?;
        } else {
            take(&from, &to, &meta, owner)?;
        }
    }
    Ok(())
}

/// Whether a file may be shared by a hard link: only if the runner's user can read it and
/// cannot change it, neither its text nor its mode.
fn is_safe_to_share(meta: &Metadata, owner: Option<u32>) -> bool {
    let mode = meta.mode();
    let readable = mode & 0o004 != 0 && (mode & 0o111 == 0 || mode & 0o001 != 0);
    owner.is_some_and(|owner| owner != meta.uid()) && mode & 0o022 == 0 && readable
}

fn take(from: &Path, to: &Path, meta: &Metadata, owner: Option<u32>) -> Result<()> {
    let act = || -> io::Result<()> {
        if meta.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
            return own(to, owner);
        }
        if !meta.is_file() {
            return Ok(());
        }
        if is_safe_to_share(meta, owner) {
            match fs::hard_link(from, to) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
                // Some file systems and kernels forbid links: a copy does as well.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                other => return other,
            }
        }
        let copying = STARTS.read().unwrap_or_else(PoisonError::into_inner);
        fs::copy(from, to)?;
        drop(copying);
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o755 | 0o600))?;
        own(to, owner)
    };
    act().map_err(|error| file_error("take over a file of the runner folder", to, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(base: &Path) -> std::path::PathBuf {
        let shared = base.join("shared");
        for folder in ["bin/sub", "externals", "_diag"] {
            fs::create_dir_all(shared.join(folder)).unwrap();
        }
        for (file, mode) in [
            ("run.sh", 0o755),
            ("config.sh", 0o755),
            ("bin/tool", 0o755),
            ("bin/sub/lib", 0o644),
            ("bin/loose", 0o666),
            (".runner", 0o644),
        ] {
            fs::write(shared.join(file), file).unwrap();
            fs::set_permissions(shared.join(file), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("tool", shared.join("bin/alias")).unwrap();
        shared
    }

    #[test]
    fn a_folder_that_is_no_runner_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let shared = shared(base.path());
        check(&shared, "runner_dir").unwrap();
        fs::remove_file(shared.join("run.sh")).unwrap();
        let error = check(&shared, "runner_dir").unwrap_err();
        assert!(error.to_string().contains("`run.sh`"), "{error}");
        let error = check(&base.path().join("none"), "runner_dir").unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }

    #[test]
    fn files_are_shared_or_copied_and_state_is_left_behind() {
        let base = tempfile::tempdir().unwrap();
        let shared = shared(base.path());
        let target = base.path().join("target");
        fill(&shared, &target, None).unwrap();
        assert_eq!(
            fs::read_to_string(target.join("bin/sub/lib")).unwrap(),
            "bin/sub/lib"
        );
        assert_eq!(
            fs::read_to_string(target.join("bin/alias")).unwrap(),
            "bin/tool"
        );
        assert!(
            fs::symlink_metadata(target.join("externals"))
                .unwrap()
                .is_symlink()
        );
        assert!(!target.join(".runner").exists() && !target.join("_diag").exists());
        // Of the same user: every file is a copy.
        assert_eq!(fs::metadata(target.join("bin/tool")).unwrap().nlink(), 1);
    }

    #[test]
    fn only_what_the_user_cannot_change_is_shared() {
        let base = tempfile::tempdir().unwrap();
        let shared = shared(base.path());
        let safe =
            |file: &str, owner| is_safe_to_share(&fs::metadata(shared.join(file)).unwrap(), owner);
        let me = rustix::process::geteuid().as_raw();
        assert!(safe("bin/tool", Some(me + 1)));
        assert!(!safe("bin/tool", Some(me)));
        assert!(!safe("bin/tool", None));
        assert!(!safe("bin/loose", Some(me + 1)));
    }
}
