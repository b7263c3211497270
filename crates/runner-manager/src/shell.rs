//! A shell on an instance, for operators.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use runner_manager_core::{Budgets, Error, ErrorKind, Result, RunnerName, Support};

use crate::config::Config;

/// Opens a shell on a runner's instance in this terminal, or runs one command there. It goes
/// through the backend, not through the manager.
pub(crate) async fn shell(path: &Path, name: &str, argv: Vec<String>) -> Result<ExitCode> {
    let name: RunnerName = name
        .parse()
        .map_err(|e: runner_manager_core::InvalidValue| {
            Error::new(ErrorKind::InvalidConfig, e.to_string())
        })?;
    let config = Config::read(path)?;
    let manager = config
        .connect_one(name.prefix(), &Budgets::default())
        .await?;
    if let Support::Unsupported(why) = manager.capability().shell {
        let message = format!("this backend opens no shell: {why}");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let Some(guest) = manager.guest(name.instance_id()).await? else {
        let message = "no such instance; `runners list` shows the runners";
        return Err(Error::new(ErrorKind::NotFound, message).with_context("runner", name));
    };
    if argv.is_empty() {
        let argv = guest.terminal()?;
        let (program, arguments) = argv.split_first().ok_or_else(|| {
            Error::new(ErrorKind::Unexpected, "the backend names no program to run")
        })?;
        // On success this process has become that program.
        let error = Command::new(program).args(arguments).exec();
        return Err(
            Error::new(ErrorKind::Local, "cannot start the shell's program")
                .with_context("program", program)
                .with_source(error),
        );
    }
    let output = guest.run(argv).await?;
    let failed = |e| Error::new(ErrorKind::Local, "cannot print the output").with_source(e);
    std::io::stdout()
        .write_all(&output.stdout)
        .map_err(failed)?;
    std::io::stderr()
        .write_all(&output.stderr)
        .map_err(failed)?;
    let code = output.status.and_then(|status| u8::try_from(status).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
