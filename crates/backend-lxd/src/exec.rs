//! Commands on an instance, through the server's exec API.
//!
//! Output comes over web sockets and is bounded here. The server could record it instead, in
//! files of its own and of any size: a job that owns its instance could fill the host's disk.

use async_trait::async_trait;
use futures::{SinkExt, StreamExt};
use reqwest::Method;
use runner_manager_core::{Command, CommandOutput, Effect, Error, ErrorKind, Exec, Result, Retry};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use crate::api::strange;
use crate::client::{Change, Client};
use crate::operation::Deadline;
use crate::server::Kind;
use crate::websocket::Socket;

/// The way to run commands on one instance, as its root.
#[derive(Debug)]
pub(crate) struct InstanceExec {
    pub(crate) client: Client,
    pub(crate) kind: Kind,
    pub(crate) instance: String,
}

impl InstanceExec {
    async fn begin(&self, command: &Command) -> Result<(String, Value)> {
        let body = json!({
            "command": command.argv,
            "wait-for-websocket": true,
            "interactive": false,
        });
        let path = ["instances", &self.instance, "exec"];
        match self
            .client
            .change(Method::POST, &path, &[], Some(&body))
            .await?
        {
            Change::Begun(operation) => Ok((operation.id, operation.metadata)),
            Change::Done => Err(strange("no operation for a command")),
        }
    }

    async fn to_end(&self, command: &Command) -> Result<CommandOutput> {
        let deadline = Deadline::after(command.timeout);
        let (id, metadata) = self.begin(command).await?;
        let open = |name: &'static str| {
            let secret = metadata["fds"][name].as_str();
            let (client, id) = (&self.client, &id);
            async move {
                client
                    .websocket(id, secret.ok_or_else(|| strange("no socket"))?)
                    .await
            }
        };
        // The command starts once all are open. Were `control` to break off, the server would
        // kill it: that is what becomes of one that nobody waits for any more.
        let (control, input, stdout, stderr) =
            tokio::try_join!(open("control"), open("0"), open("1"), open("2"))?;
        let (_, stdout, stderr) = tokio::try_join!(end_input(input), keep(stdout), keep(stderr))?;
        let ended = self.client.wait(&id, deadline).await?;
        drop(control);
        let status = ended.metadata["return"].as_i64();
        let status = status.and_then(|status| i32::try_from(status).ok());
        Ok(CommandOutput {
            status,
            stdout,
            stderr,
        })
    }
}

/// The command reads nothing: an empty text ends its input.
async fn end_input(mut input: Socket) -> Result<()> {
    match input.send(Message::text("")).await {
        // A command that has ended already needs no end of its input.
        Ok(())
        | Err(SocketError::ConnectionClosed | SocketError::AlreadyClosed | SocketError::Io(_)) => {
            Ok(())
        }
        Err(error) => Err(broken(error)),
    }
}

/// Reads a stream to its end and keeps the beginning.
async fn keep(mut stream: Socket) -> Result<Vec<u8>> {
    let mut kept = Vec::new();
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Binary(chunk)) => CommandOutput::keep(&mut kept, &chunk),
            // An empty text marks the end.
            Ok(Message::Text(_) | Message::Close(_))
            | Err(SocketError::ConnectionClosed | SocketError::AlreadyClosed) => break,
            Ok(_) => {}
            Err(error) => return Err(broken(error)),
        }
    }
    // The other side waits for this before it calls the stream done.
    let _ = stream.close(None).await;
    Ok(kept)
}

fn broken(error: SocketError) -> Error {
    Error::new(ErrorKind::Unreachable, "the connection to a command broke")
        .with_retry(Retry::After(std::time::Duration::from_secs(5)))
        .with_effect(Effect::Unknown)
        .with_source(error)
}

#[async_trait]
impl Exec for InstanceExec {
    async fn exec(&self, command: Command) -> Result<CommandOutput> {
        match tokio::time::timeout(command.timeout, self.to_end(&command)).await {
            Ok(output) => output,
            Err(_) => Err(Error::new(
                ErrorKind::TimedOut,
                "the command has not ended before its deadline",
            )
            .with_effect(Effect::Unknown)),
        }
    }

    fn terminal(&self) -> Result<Vec<String>> {
        let Some(socket) = &self.client.endpoint().socket else {
            let message = "a shell is opened only where the server's socket is; use `lxc exec` \
                           or `incus exec` with a remote of your own";
            return Err(Error::new(ErrorKind::Unsupported, message));
        };
        let (program, variable) = match self.kind {
            Kind::Lxd => ("lxc", "LXD_SOCKET"),
            Kind::Incus => ("incus", "INCUS_SOCKET"),
        };
        let socket = format!("{variable}={}", socket.display());
        let project = self.client.project();
        let instance = self.instance.as_str();
        let words = [
            "env",
            &socket,
            program,
            "exec",
            "--project",
            project,
            instance,
        ];
        let shell = ["--", "/bin/sh", "-l"];
        Ok(words.into_iter().chain(shell).map(str::to_owned).collect())
    }
}
