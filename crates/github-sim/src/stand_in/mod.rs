//! The stand-in runner: one program that plays `Runner.Listener` and `Runner.Worker`.

mod args;
mod configure;
mod files;
mod folder;
mod http;
mod listener;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use folder::write_runner_folder;

/// Plays the stand-in runner when this process was started as `Runner.Listener` or
/// `Runner.Worker`; `None` under any other name.
///
/// A program that serves as the stand-in runner asks this first thing in `main`, before it starts
/// any thread.
#[must_use]
pub fn stand_in_main() -> Option<ExitCode> {
    let program = PathBuf::from(std::env::args_os().next()?);
    match program.file_name()?.to_str()? {
        "Runner.Listener" => Some(listener_main()),
        "Runner.Worker" => Some(worker::main()),
        _ => None,
    }
}

fn listener_main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = match arguments.first() {
        Some(first) if !first.starts_with("--") => arguments.remove(0),
        _ => "run".to_owned(),
    };
    let Some(root) = root() else {
        eprintln!("the program's folder is not known; start it as <folder>/bin/Runner.Listener");
        return ExitCode::FAILURE;
    };
    if rustix::process::getuid().is_root() && std::env::var_os("RUNNER_ALLOW_RUNASROOT").is_none() {
        eprintln!("the runner does not run as root; set RUNNER_ALLOW_RUNASROOT=1 to let it");
        return ExitCode::FAILURE;
    }
    let arguments = args::Arguments::new(&arguments, |name| std::env::var(name).ok());
    let done = match command.as_str() {
        "run" => listener::run(&root, &arguments),
        "configure" => configure::configure(&root, &arguments),
        "remove" => configure::remove(&root, &arguments),
        other => Err(format!(
            "unknown command `{other}`; use run, configure or remove"
        )),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(listener::TERMINATED)
        }
    }
}

/// The runner's folder: the parent of the folder that the program was started from.
fn root() -> Option<PathBuf> {
    let program = PathBuf::from(std::env::args_os().next()?);
    let bin = program.parent()?.canonicalize().ok()?;
    bin.parent().map(Path::to_path_buf)
}

/// A runtime of this thread alone: it starts in well under a millisecond.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start the runtime: {e}"))?;
    let value = runtime.block_on(future);
    // A read of standard input may still be under way in a thread.
    runtime.shutdown_background();
    Ok(value)
}
