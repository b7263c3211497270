//! Guests through Systems Manager: `SendCommand`, then asking for the end.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ssm::operation::get_command_invocation::GetCommandInvocationOutput;
use aws_sdk_ssm::types::CommandInvocationStatus;
use runner_manager_core::{Command, CommandOutput, Effect, Error, ErrorKind, Exec, Result, Retry};

use super::command_line;
use crate::api::Api;

/// The document that runs a line of shell.
const DOCUMENT: &str = "AWS-RunShellScript";
/// The shortest time that Systems Manager gives the agent to take a command.
const SHORTEST: u64 = 30;

/// Systems Manager as a pool uses it.
#[derive(Debug)]
pub(crate) struct Way {
    pub(super) api: Api,
    pub(super) poll: Duration,
}

impl Way {
    pub(super) fn exec(&self, instance: &str) -> SsmExec {
        SsmExec {
            api: self.api.clone(),
            poll: self.poll,
            instance: instance.to_owned(),
        }
    }
}

/// Commands on one instance.
#[derive(Debug)]
pub(crate) struct SsmExec {
    api: Api,
    poll: Duration,
    instance: String,
}

#[async_trait]
impl Exec for SsmExec {
    async fn exec(&self, command: Command) -> Result<CommandOutput> {
        tokio::time::timeout(command.timeout, self.run(&command))
            .await
            .map_err(|_| {
                let message = "the command did not end before its deadline";
                Error::new(ErrorKind::TimedOut, message).with_effect(Effect::Unknown)
            })?
    }
}

impl SsmExec {
    async fn run(&self, command: &Command) -> Result<CommandOutput> {
        let line = command_line(&command.argv)?;
        let seconds = command.timeout.as_secs();
        let ssm = &self.api.ssm;
        // Made again after a lost answer, a command may run twice: all of the manager's may.
        let sent = self
            .api
            .call_ssm("SendCommand", || {
                ssm.send_command()
                    .instance_ids(&self.instance)
                    .document_name(DOCUMENT)
                    .parameters("commands", vec![line.clone()])
                    .parameters("executionTimeout", vec![seconds.max(1).to_string()])
                    .timeout_seconds(i32::try_from(seconds.max(SHORTEST)).unwrap_or(i32::MAX))
                    .send()
            })
            .await
            .map_err(absent)?;
        let id = sent
            .command
            .and_then(|command| command.command_id)
            .ok_or_else(|| {
                Error::new(ErrorKind::BadAnswer, "the command was sent, and has no id")
            })?;
        loop {
            tokio::time::sleep(self.poll).await;
            let asked = self.api.call_ssm("GetCommandInvocation", || {
                let call = ssm.get_command_invocation().command_id(&id);
                call.instance_id(&self.instance).send()
            });
            match asked.await {
                Ok(found) => {
                    if let Some(end) = end(found) {
                        return end;
                    }
                }
                // It shows late.
                Err(error) if error.context("code") == Some("InvocationDoesNotExist") => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// An instance that the agent has not registered is one that cannot be reached (yet).
fn absent(error: Error) -> Error {
    if error.context("code") != Some("InvalidInstanceId") {
        return error;
    }
    let message = "Systems Manager does not know the instance: its agent has not registered";
    Error::new(ErrorKind::Unreachable, message).with_retry(Retry::After(Duration::from_secs(5)))
}

/// What came of a command; `None` while it runs.
fn end(found: GetCommandInvocationOutput) -> Option<Result<CommandOutput>> {
    let failed = |kind, message: &str| Some(Err(Error::new(kind, message)));
    match found.status? {
        CommandInvocationStatus::Success | CommandInvocationStatus::Failed => {
            let bytes = |text: Option<String>| text.unwrap_or_default().into_bytes();
            Some(Ok(CommandOutput {
                status: Some(found.response_code),
                stdout: bytes(found.standard_output_content),
                stderr: bytes(found.standard_error_content),
            }))
        }
        CommandInvocationStatus::TimedOut => failed(
            ErrorKind::TimedOut,
            "the agent did not run the command in time",
        ),
        CommandInvocationStatus::Cancelled | CommandInvocationStatus::Cancelling => {
            failed(ErrorKind::Unexpected, "somebody cancelled the command")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: CommandInvocationStatus) -> GetCommandInvocationOutput {
        GetCommandInvocationOutput::builder()
            .status(status)
            .response_code(3)
            .standard_output_content("out")
            .build()
    }

    #[test]
    fn a_command_has_ended_when_its_status_says_so() {
        use CommandInvocationStatus as S;
        for running in [S::Pending, S::InProgress, S::Delayed] {
            assert!(end(answer(running)).is_none());
        }
        let failed = end(answer(S::Failed)).expect("an end").expect("an output");
        assert_eq!(
            (failed.status, failed.stdout.as_slice()),
            (Some(3), b"out".as_slice())
        );
        let late = end(answer(S::TimedOut))
            .expect("an end")
            .expect_err("no output");
        assert_eq!(late.kind(), ErrorKind::TimedOut);
    }
}
