//! Commands on an instance, and what the manager does with them.
//!
//! A backend that can run a command implements [`Exec`]; [`ExecGuest`] makes a
//! [`Guest`](crate::Guest) of it.

mod guest;

use std::time::Duration;

use async_trait::async_trait;

pub use guest::ExecGuest;

use crate::{Error, ErrorKind, Result};

/// A command for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments. A channel that takes one line of shell instead quotes
    /// each of them. They hold no secret: whoever is on the instance can read them.
    pub argv: Vec<String>,
    /// How long the command may take, from the request to its last output.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandOutput {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Its standard output, at most [`MAX_BYTES`](Self::MAX_BYTES).
    pub stdout: Vec<u8>,
    /// Its standard error, at most as much.
    pub stderr: Vec<u8>,
}

impl CommandOutput {
    /// The most bytes that are kept of one stream. What comes after them is dropped.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Adds what a stream delivered, as far as there is room.
    pub fn keep(stream: &mut Vec<u8>, chunk: &[u8]) {
        let room = Self::MAX_BYTES.saturating_sub(stream.len());
        stream.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
}

/// Runs commands on one instance: SSH, an exec API, a guest agent.
///
/// # Behavior
/// The command runs without a terminal, with empty input, as root or as the runner's user, in
/// the instance's own process namespace: it sees and may stop every runner process there, so a
/// test that stands several instances on one machine gives each a namespace of its own. Bytes
/// arrive as they were written.
///
/// # On failure
/// [`ErrorKind::Unreachable`] when no connection can be made or it breaks,
/// [`ErrorKind::TimedOut`] when [`Command::timeout`] passes: the command may still run then.
/// A command that ran and failed is no error: its status says so.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Runs a command to its end. A future that is dropped closes the channel.
    async fn exec(&self, command: Command) -> Result<CommandOutput>;

    /// The program of this machine that opens an interactive shell on the instance, in the
    /// terminal of whoever runs it: `ssh`, `lxc exec`. It holds no secret.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where there is none.
    fn terminal(&self) -> Result<Vec<String>> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "this backend opens no interactive shell; give a command to run",
        ))
    }
}
