//! One command on a connection.

use runner_manager_core::{Effect, Error, ErrorKind, Result};
use russh::ChannelMsg;

use crate::connect::Connection;
use crate::fault::unreachable;

/// What a command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<u32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

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

/// Runs a command with `stdin` as its standard input, and takes at most `limit` bytes of
/// standard output and of standard error each.
pub(crate) async fn run(
    connection: &Connection,
    command: &str,
    stdin: &[u8],
    limit: usize,
) -> Result<Output, Failed> {
    let open = connection.handle.channel_open_session().await;
    let mut channel = open.map_err(|e| Failed::Unsent(lost(e)))?;
    let sent = |e| Failed::Sent(lost(e));
    channel
        .exec(true, command)
        .await
        .map_err(|e| Failed::Unsent(lost(e)))?;
    if !stdin.is_empty() {
        channel.data(stdin).await.map_err(sent)?;
    }
    channel.eof().await.map_err(sent)?;
    let mut output = Output {
        status: None,
        stdout: Vec::new(),
        stderr: Vec::new(),
    };
    let mut ended = false;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => take(&mut output.stdout, &data, limit)?,
            ChannelMsg::ExtendedData { data, .. } => take(&mut output.stderr, &data, limit)?,
            ChannelMsg::ExitStatus { exit_status } => {
                output.status = Some(exit_status);
                ended = true;
            }
            ChannelMsg::ExitSignal { .. } => ended = true,
            ChannelMsg::Failure => {
                let message = "the host refuses to run the command";
                return Err(Failed::Unsent(Error::new(
                    ErrorKind::PermissionDenied,
                    message,
                )));
            }
            _ => {}
        }
    }
    if ended {
        Ok(output)
    } else {
        Err(Failed::Sent(unreachable(
            "the SSH connection was lost while the command ran",
        )))
    }
}

fn take(kept: &mut Vec<u8>, data: &[u8], limit: usize) -> Result<(), Failed> {
    if data.len() > limit.saturating_sub(kept.len()) {
        let error = Error::new(ErrorKind::BadAnswer, "the command printed too much")
            .with_context("limit", format!("{limit} bytes"));
        return Err(Failed::Sent(error));
    }
    kept.extend_from_slice(data);
    Ok(())
}
