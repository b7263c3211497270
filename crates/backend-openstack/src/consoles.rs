//! The consoles of runners whose boot failed, kept in the state folder.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use runner_manager_core::{Error, ErrorKind, Result, RunnerName};

fn local(message: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Local, message)
        .with_context("path", path.display())
        .with_source(error)
}

/// Keeps a console, and removes the oldest beyond `most`. Blocking.
pub(crate) fn keep(folder: &Path, name: &RunnerName, text: &str, most: usize) -> Result<PathBuf> {
    let path = folder.join(format!("{name}.console"));
    let write = || {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(|e| local("cannot keep the console", &path, e))?;
    trim(folder, most).map_err(|e| local("cannot remove old consoles", folder, e))?;
    Ok(path)
}

fn trim(folder: &Path, most: usize) -> std::io::Result<()> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".console") {
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    kept.sort();
    let surplus = kept.len().saturating_sub(most);
    for (_, path) in kept.into_iter().take(surplus) {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_consoles_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("consoles");
        for digit in ["1", "2", "3"] {
            let name: RunnerName = format!("app-{}", digit.repeat(12)).parse().unwrap();
            keep(&at, &name, "Kernel panic", 2).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(!at.join("app-111111111111.console").exists());
        assert_eq!(
            std::fs::read_to_string(at.join("app-333333333333.console")).unwrap(),
            "Kernel panic"
        );
        assert_eq!(std::fs::read_dir(&at).unwrap().count(), 2);
    }
}
