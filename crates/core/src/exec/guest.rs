//! A guest made of commands.

use std::time::Duration;

use async_trait::async_trait;

use super::{Command, CommandOutput, Exec};
use crate::{
    CloudInitStatus, Error, ErrorKind, ExchangeFile, Guest, GuestFile, GuestProbe, Result,
    StopMode, StopOutcome,
};

// Constant scripts for any POSIX shell, busybox's included. Values reach them as arguments.
const PROBE: &str = concat!(
    include_str!("scripts/processes.sh"),
    include_str!("scripts/probe.sh")
);
const STOP: &str = concat!(
    include_str!("scripts/processes.sh"),
    include_str!("scripts/stop.sh")
);
const READ: &str = include_str!("scripts/read.sh");

/// What an instance says in an error is shown up to here.
const MAX_SHOWN: usize = 200;

/// A [`Guest`] on top of a channel that runs commands: one command answers each question.
///
/// Whatever the instance answers is untrusted, as a job may own it: answers are parsed strictly,
/// and the worst that a lie does is to keep or to lose that one runner.
#[derive(Debug)]
pub struct ExecGuest<E> {
    exec: E,
    exchange: String,
    timeout: Duration,
}

impl<E: Exec> ExecGuest<E> {
    /// `exchange` is the absolute path of the metrics-exchange folder on the instance
    /// ([`crate::BootConfig::exchange_folder`]); `timeout` is for one command
    /// ([`crate::Timings::guest_timeout`]).
    pub fn new(exec: E, exchange: impl Into<String>, timeout: Duration) -> Self {
        Self {
            exec,
            exchange: exchange.into(),
            timeout,
        }
    }

    async fn script(&self, script: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        let argv = ["/bin/sh", "-c", script, "runner-manager"];
        let argv = argv.iter().chain(arguments).map(|word| (*word).to_owned());
        let output = self.run(argv.collect()).await?;
        if output.status == Some(0) {
            return Ok(output.stdout);
        }
        let kind = match output.status {
            Some(77) => ErrorKind::PermissionDenied,
            Some(75) => ErrorKind::TimedOut,
            _ => ErrorKind::BadAnswer,
        };
        let status = output.status.map_or("a signal".into(), |s| s.to_string());
        Err(Error::new(kind, "a command on the instance failed")
            .with_context("status", status)
            .with_context("stderr", shown(&output.stderr)))
    }
}

/// Untrusted output, fit for a log.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = text.trim().chars().take(MAX_SHOWN);
    clean
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn strange(answer: &[u8]) -> Error {
    Error::new(ErrorKind::BadAnswer, "the instance gave a strange answer")
        .with_context("answer", shown(answer))
}

fn parse_probe(answer: &[u8]) -> Result<GuestProbe> {
    let text = String::from_utf8_lossy(answer);
    let mut lines = text.lines();
    let mut flag = |name: &str| {
        let word = lines.next().and_then(|line| line.strip_prefix(name));
        match word {
            Some(" yes") => Ok(true),
            Some(" no") => Ok(false),
            _ => Err(strange(answer)),
        }
    };
    let (installed, listener, worker) = (flag("installed")?, flag("listener")?, flag("worker")?);
    let rest: Vec<&str> = lines.collect();
    Ok(GuestProbe {
        installed,
        cloud_init: CloudInitStatus::parse(&rest.join("\n")),
        listener,
        worker,
    })
}

fn parse_file(answer: &[u8]) -> Result<GuestFile> {
    let end = answer.iter().position(|byte| *byte == b'\n');
    let (head, content) = answer.split_at(end.ok_or_else(|| strange(answer))?);
    match head {
        b"absent" => Ok(GuestFile::Absent),
        b"content" if content.len() > ExchangeFile::MAX_BYTES + 1 => Ok(GuestFile::Refused(
            format!("is larger than {} bytes", ExchangeFile::MAX_BYTES),
        )),
        b"content" => Ok(GuestFile::Bytes(content[1..].to_vec())),
        _ => match head.strip_prefix(b"refused ") {
            Some(reason) => Ok(GuestFile::Refused(shown(reason))),
            None => Err(strange(answer)),
        },
    }
}

#[async_trait]
impl<E: Exec> Guest for ExecGuest<E> {
    async fn probe(&self) -> Result<GuestProbe> {
        parse_probe(&self.script(PROBE, &[&self.exchange]).await?)
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        let mode = match mode {
            StopMode::Idle => "idle",
            StopMode::IdleOrBusy => "any",
        };
        let answer = self.script(STOP, &[mode]).await?;
        match answer.trim_ascii() {
            b"stopped" => Ok(StopOutcome::Stopped),
            b"busy" => Ok(StopOutcome::Busy),
            b"not-running" => Ok(StopOutcome::NotRunning),
            _ => Err(strange(&answer)),
        }
    }

    async fn read_file(&self, file: ExchangeFile) -> Result<GuestFile> {
        let name = file.file_name();
        parse_file(&self.script(READ, &[&self.exchange, name]).await?)
    }

    async fn run(&self, argv: Vec<String>) -> Result<CommandOutput> {
        let timeout = self.timeout;
        self.exec.exec(Command { argv, timeout }).await
    }

    fn terminal(&self) -> Result<Vec<String>> {
        self.exec.terminal()
    }
}
