//! Creating a runner, or leaving nothing.

use super::HostedRunners;
use crate::{
    Cloud, CloudInstance, CloudRunnerState, CreateRunner, Effect, Error, ErrorKind, InstanceId,
    LaunchSpec, Result, RunnerCredential, RunnerName, StopMode, StopOutcome, Support,
};

impl<C: Cloud> HostedRunners<C> {
    pub(super) async fn create(&self, request: CreateRunner) -> Result<InstanceId> {
        let name = self.prefix.runner_name(&request.id);
        self.refuse_unsupported(&request)
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
            Err(error) => match self.undo(&name, error).await {
                None => Ok(request.id),
                Some(error) => Err(error.with_context("runner", &name)),
            },
        }
    }

    fn refuse_unsupported(&self, request: &CreateRunner) -> Result<()> {
        let capability = self.cloud.capability();
        let credential = match request.credential {
            RunnerCredential::JitConfig(_) => ("JIT configs", capability.jit_config),
            RunnerCredential::RegistrationToken { .. } => {
                ("registration tokens", capability.registration_token)
            }
            RunnerCredential::Claim { .. } => ("nonces", capability.claim),
        };
        let services = ("support services", capability.support_services);
        let services = (!request.support.is_empty()).then_some(services);
        for (what, support) in [Some(credential), services].into_iter().flatten() {
            if let Support::Unsupported(why) = support {
                let message = format!("the backend does not take {what}: {why}");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        Ok(())
    }

    /// Removes what a failed launch left, and says in the error's effect whether it could. A
    /// failed call may have launched an instance that runs a job by now: then there is no error.
    async fn undo(&self, name: &RunnerName, error: Error) -> Option<Error> {
        let find = self.within(
            self.timings.call_timeout,
            "undo launch",
            self.cloud.get(name),
        );
        let found = match find.await {
            Ok(found) => found,
            Err(left) => {
                let error = error.with_effect(Effect::Partial);
                return Some(error.with_context("not removed", left));
            }
        };
        match self.halt(found.as_ref()).await {
            Ok(StopOutcome::Busy) => {
                tracing::warn!(runner = %name, %error, "a launch failed, and its runner has a job: it is kept");
                return None;
            }
            Ok(StopOutcome::Stopped | StopOutcome::NotRunning) => {}
            Err(unknown) => {
                let error = error.with_effect(Effect::Partial);
                return Some(error.with_context("not removed", unknown));
            }
        }
        let undo = async {
            match &found {
                Some(instance) => self.cloud.terminate(instance).await,
                None => Ok(()),
            }
        };
        Some(
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
            },
        )
    }

    /// Stops a runner that has no job, in one step with the check. An error says that it is not
    /// known whether it has one.
    async fn halt(&self, instance: Option<&CloudInstance>) -> Result<StopOutcome> {
        let can_ask = !matches!(self.cloud.capability().idle_stop, Support::Unsupported(_));
        let active = |i: &&CloudInstance| i.state == CloudRunnerState::Active && can_ask;
        let Some(instance) = instance.filter(active) else {
            return Ok(StopOutcome::NotRunning);
        };
        let stop = async {
            let guest = self.cloud.guest(instance).await?;
            guest.stop_runner(StopMode::Idle).await
        };
        match self
            .within(self.timings.guest_timeout, "stop runner", stop)
            .await
        {
            // A machine that boots has no open port yet.
            Err(error) if error.kind() == ErrorKind::Unreachable => Ok(StopOutcome::NotRunning),
            outcome => outcome,
        }
    }
}
