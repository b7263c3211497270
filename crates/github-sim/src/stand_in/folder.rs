//! A folder laid out like an unpacked `actions-runner`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const RUN: &str = include_str!("scripts/run.sh");
const CONFIG: &str = include_str!("scripts/config.sh");

/// Lays out a runner's folder in `dir`: `config.sh`, `run.sh`, `bin/Runner.Listener` and
/// `bin/Runner.Worker`, the last two copies of `program`, which must ask
/// [`stand_in_main`](crate::stand_in_main) first thing in its `main`. Every user may read it.
///
/// # Errors
/// When the folder cannot be written or the program not be read.
pub fn write_runner_folder(dir: &Path, program: &Path) -> io::Result<()> {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin)?;
    fs::copy(program, bin.join("Runner.Listener"))?;
    let worker = bin.join("Runner.Worker");
    match fs::remove_file(&worker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::hard_link(bin.join("Runner.Listener"), &worker)?,
    }
    for (name, text) in [("run.sh", RUN), ("config.sh", CONFIG)] {
        fs::write(dir.join(name), text)?;
    }
    for name in ["", "bin", "run.sh", "config.sh", "bin/Runner.Listener"] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
