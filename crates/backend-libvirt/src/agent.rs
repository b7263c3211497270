//! Commands on an instance, through the QEMU guest agent:
//! <https://www.qemu.org/docs/master/interop/qemu-ga-ref.html>.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runner_manager_core::{Command, CommandOutput, Error, ErrorKind, Exec, Result, Retry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virt::domain::Domain;

use crate::api::failed;
use crate::host::{Host, Lane};

/// How soon the end of a command is asked for, and how long the pauses become.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// The way to one instance.
pub(crate) struct Agent {
    pub(crate) host: Arc<Host>,
    pub(crate) domain: Uuid,
}

#[derive(Serialize)]
#[serde(tag = "execute", content = "arguments", rename_all = "kebab-case")]
enum Request {
    #[serde(rename_all = "kebab-case")]
    GuestExec {
        path: String,
        arg: Vec<String>,
        capture_output: bool,
    },
    GuestExecStatus {
        pid: i64,
    },
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    value: T,
}

#[derive(Deserialize)]
struct Started {
    pid: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    exited: bool,
    exitcode: Option<i32>,
    out_data: Option<String>,
    err_data: Option<String>,
}

fn strange(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(
        ErrorKind::BadAnswer,
        "the guest agent gave a strange answer",
    )
    .with_source(error)
}

/// What the agent kept of a stream.
fn stream(data: Option<String>) -> Result<Vec<u8>> {
    let bytes = data
        .map(|text| STANDARD.decode(text))
        .transpose()
        .map_err(strange)?;
    let mut kept = Vec::new();
    CommandOutput::keep(&mut kept, &bytes.unwrap_or_default());
    Ok(kept)
}

fn output(status: Status) -> Result<CommandOutput> {
    Ok(CommandOutput {
        status: status.exitcode,
        stdout: stream(status.out_data)?,
        stderr: stream(status.err_data)?,
    })
}

fn late() -> Error {
    Error::new(ErrorKind::TimedOut, "the command did not end in time")
        .with_retry(Retry::After(Duration::from_secs(5)))
}

impl Agent {
    async fn ask<T: DeserializeOwned + Send + 'static>(
        &self,
        request: &Request,
        end: Instant,
    ) -> Result<T> {
        let text = serde_json::to_string(request).map_err(strange)?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        let seconds = i32::try_from(left.as_secs().max(1)).unwrap_or(i32::MAX);
        let uuid = self.domain;
        let ask = self.host.run(Lane::Guest, move |opened| {
            Domain::lookup_by_uuid(&opened.session.connection, uuid)
                .map_err(failed("find the domain"))?
                .qemu_agent_command(&text, seconds, 0)
                .map_err(failed("ask the guest agent"))
        });
        let answer: Answer<T> = serde_json::from_str(&ask.await?).map_err(strange)?;
        Ok(answer.value)
    }
}

#[async_trait]
impl Exec for Agent {
    async fn exec(&self, command: Command) -> Result<CommandOutput> {
        let end = Instant::now() + command.timeout;
        let mut words = command.argv.into_iter();
        let request = Request::GuestExec {
            path: words.next().unwrap_or_default(),
            arg: words.collect(),
            capture_output: true,
        };
        let started: Started = self.ask(&request, end).await?;
        let request = Request::GuestExecStatus { pid: started.pid };
        let mut pause = PAUSES.0;
        loop {
            let status: Status = self.ask(&request, end).await?;
            if status.exited {
                return output(status);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_what_the_agent_reads() {
        let request = Request::GuestExec {
            path: "/bin/sh".into(),
            arg: vec!["-c".into(), "echo \"$1\"".into()],
            capture_output: true,
        };
        assert_eq!(
            serde_json::to_value(request).expect("JSON"),
            serde_json::json!({"execute": "guest-exec", "arguments": {
                "path": "/bin/sh", "arg": ["-c", "echo \"$1\""], "capture-output": true,
            }})
        );
        assert_eq!(
            serde_json::to_value(Request::GuestExecStatus { pid: 7 }).expect("JSON"),
            serde_json::json!({"execute": "guest-exec-status", "arguments": {"pid": 7}})
        );
    }

    #[test]
    fn the_end_of_a_command_is_read() {
        let read = |text| serde_json::from_str::<Answer<Status>>(text).map(|a| a.value);
        let text = r#"{"return":{"exited":true,"exitcode":3,"out-data":"aGk=","err-data":""}}"#;
        let done = output(read(text).expect("a status")).expect("output");
        assert_eq!((done.status, &*done.stdout), (Some(3), &b"hi"[..]));
        let killed = read(r#"{"return":{"exited":true,"signal":9}}"#).expect("a status");
        assert_eq!(output(killed).expect("output").status, None);
        let garbled = read(r#"{"return":{"exited":true,"out-data":"%"}}"#).expect("a status");
        assert_eq!(
            output(garbled).expect_err("no base64").kind(),
            ErrorKind::BadAnswer
        );
    }
}
