//! What the flight recorder gets: failed launches and boots, with what can still be looked at.

use runner_manager_core::{Error, RunnerName};
use runner_manager_store::NewFailure;

use crate::decide::Why;
use crate::operation::Context;
use crate::pool::Class;
use crate::redact::redact;

/// What is known of a runner that did not come online, or was given no job.
#[derive(Debug, Clone)]
pub(crate) struct FailedRunner {
    pub(crate) class: Class,
    /// What the backend last said of its health.
    pub(crate) probe: Option<String>,
}

impl Context {
    pub(crate) async fn record_launch(&self, name: &RunnerName, error: &Error) {
        let class = Class::Launch(error.kind());
        self.record(name, class, error.to_string(), None, None)
            .await;
    }

    /// Records a runner that failed while its instance can still be looked at, and gives the
    /// console's text.
    pub(crate) async fn record_runner(
        &self,
        name: &RunnerName,
        why: Why,
        failed: FailedRunner,
    ) -> Option<String> {
        let console = match self.pool.manager.console(name.instance_id()).await {
            Ok(console) => console.map(|text| redact(&text)),
            Err(error) => Some(format!("the console cannot be read: {error}")),
        };
        let reason = why.as_str().to_owned();
        self.record(name, failed.class, reason, failed.probe, console.clone())
            .await;
        console
    }

    /// A record that cannot be stored is no reason to keep what failed.
    async fn record(
        &self,
        name: &RunnerName,
        class: Class,
        reason: String,
        probe: Option<String>,
        console: Option<String>,
    ) {
        let failure = NewFailure {
            at: self.shared.clock.now(),
            pool: self.pool.name.clone(),
            runner: name.clone(),
            class: class.as_str().to_owned(),
            reason: redact(&reason),
            probe: probe.map(|text| redact(&text)),
            console,
        };
        if let Err(error) = self.shared.store.record_failure(failure).await {
            tracing::warn!(pool = self.pool.name, runner = %name, %error, "cannot record a failure");
        }
    }
}
