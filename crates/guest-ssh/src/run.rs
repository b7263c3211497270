//! One command on a connection.

use runner_manager_core::{CommandOutput, Effect, Error, ErrorKind, Result};
use russh::ChannelMsg;

use crate::connect::Connection;
use crate::fault::unreachable;

/// How far a command got.
pub(crate) enum Failed {
    /// The host never saw it.
    Unsent(Error),
    /// It may have run.
    Sent(Error),
}

impl Failed {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Unsent(error) => error,
            Self::Sent(error) => error.with_effect(Effect::Unknown),
        }
    }
}

fn lost(error: russh::Error) -> Error {
    unreachable("the SSH connection was lost").with_source(error)
}

/// Runs a command line of the host's shell, with empty input.
pub(crate) async fn run(connection: &Connection, line: &str) -> Result<CommandOutput, Failed> {
    let open = connection.handle.channel_open_session().await;
    let mut channel = open.map_err(|e| Failed::Unsent(lost(e)))?;
    let exec = channel.exec(true, line).await;
    exec.map_err(|e| Failed::Unsent(lost(e)))?;
    channel.eof().await.map_err(|e| Failed::Sent(lost(e)))?;
    let mut output = CommandOutput::default();
    let mut ended = false;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => CommandOutput::keep(&mut output.stdout, &data),
            ChannelMsg::ExtendedData { data, .. } => CommandOutput::keep(&mut output.stderr, &data),
            ChannelMsg::ExitStatus { exit_status } => {
                output.status = i32::try_from(exit_status).ok();
                ended = true;
            }
            ChannelMsg::ExitSignal { .. } => ended = true,
            ChannelMsg::Failure => {
                let message = "the host refuses to run the command";
                let error = Error::new(ErrorKind::PermissionDenied, message);
                return Err(Failed::Unsent(error));
            }
            _ => {}
        }
    }
    if ended {
        return Ok(output);
    }
    let message = "the SSH connection was lost while the command ran";
    Err(Failed::Sent(unreachable(message)))
}
