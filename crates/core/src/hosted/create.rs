//! Creating a runner, or leaving nothing.

use super::HostedRunners;
use crate::{
    Cloud, CreateRunner, Effect, Error, ErrorKind, InstanceId, LaunchSpec, Result,
    RunnerCredential, RunnerName, Support,
};

impl<C: Cloud> HostedRunners<C> {
    pub(super) async fn create(&self, request: CreateRunner) -> Result<InstanceId> {
        let name = self.prefix.runner_name(&request.id);
        self.refuse_unsupported(&request.credential)
            .map_err(|e| e.with_context("runner", &name))?;
        let spec = LaunchSpec {
            name: name.clone(),
            credential: request.credential,
            github: request.github,
            support: request.support,
        };
        let launch = self.cloud.launch(&spec);
        match self
            .within(self.timings.launch_timeout, "launch", launch)
            .await
        {
            Ok(_) => Ok(request.id),
            Err(error) => Err(self.undo(&name, error).await.with_context("runner", &name)),
        }
    }

    fn refuse_unsupported(&self, credential: &RunnerCredential) -> Result<()> {
        let capability = self.cloud.capability();
        let (what, support) = match credential {
            RunnerCredential::JitConfig(_) => ("JIT configs", capability.jit_config),
            RunnerCredential::RegistrationToken { .. } => {
                ("registration tokens", capability.registration_token)
            }
            RunnerCredential::Claim { .. } => ("nonces", capability.claim),
        };
        match support {
            Support::Native | Support::Emulated => Ok(()),
            Support::Unsupported(why) => {
                let message = format!("the backend does not take {what}: {why}");
                Err(Error::new(ErrorKind::Unsupported, message))
            }
        }
    }

    /// Removes what a failed launch left, and says in the error's effect whether it could.
    async fn undo(&self, name: &RunnerName, error: Error) -> Error {
        let undo = async {
            match self.cloud.get(name).await? {
                Some(instance) => self.cloud.terminate(&instance).await,
                None => Ok(()),
            }
        };
        match self
            .within(self.timings.call_timeout, "undo launch", undo)
            .await
        {
            Ok(()) if error.kind() != ErrorKind::TimedOut => error.with_effect(Effect::None),
            // A launch that timed out may still take effect on the cloud's side.
            Ok(()) => error.with_effect(Effect::Unknown),
            Err(left) => error
                .with_effect(Effect::Partial)
                .with_context("not removed", left),
        }
    }
}
