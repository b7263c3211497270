//! A manager that has the bugs that lie above the cloud.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use runner_manager_core::{
    Capability, CloudRunnerInstance, CloudRunnerManager, CloudRunnerState, Connected, CreateRunner,
    Error, ErrorKind, InstanceId, NamePrefix, RemoveToken, Result, RunnerMetrics,
};

use crate::mutation::Mutation;

/// A manager with a bug.
pub(crate) struct Mutant {
    pub(crate) inner: Connected,
    pub(crate) mutation: Option<Mutation>,
}

impl Mutant {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

fn not_found() -> Error {
    Error::new(ErrorKind::NotFound, "a planted bug")
}

fn until_error(
    stream: BoxStream<'_, Result<RunnerMetrics>>,
) -> BoxStream<'_, Result<RunnerMetrics>> {
    let ended = |ended: &mut bool, item: Result<RunnerMetrics>| {
        let go_on = !*ended;
        *ended |= item.is_err();
        std::future::ready(go_on.then_some(item))
    };
    stream.scan(false, ended).boxed()
}

#[async_trait]
impl CloudRunnerManager for Mutant {
    fn name_prefix(&self) -> &NamePrefix {
        self.inner.name_prefix()
    }

    fn capability(&self) -> &Capability {
        self.inner.capability()
    }

    async fn create_runner(&self, mut request: CreateRunner) -> Result<InstanceId> {
        if self.has(Mutation::OwnIds) {
            request.id = InstanceId::random();
        }
        self.inner.create_runner(request).await
    }

    async fn get_runner(&self, id: &InstanceId) -> Result<Option<CloudRunnerInstance>> {
        let found = self.inner.get_runner(id).await?;
        if found.is_none() && self.has(Mutation::GetUnknownFails) {
            return Err(not_found());
        }
        Ok(found)
    }

    async fn get_runners(
        &self,
        states: Option<&[CloudRunnerState]>,
    ) -> Result<Vec<CloudRunnerInstance>> {
        let states = states.filter(|_| !self.has(Mutation::FilterIgnored));
        match self.inner.get_runners(states).await {
            Err(_) if self.has(Mutation::FailedListIsEmpty) => Ok(Vec::new()),
            answer => answer,
        }
    }

    async fn delete_runner(
        &self,
        id: &InstanceId,
        token: &RemoveToken,
    ) -> Result<Option<RunnerMetrics>> {
        let gone = self.inner.delete_runner(id, token).await?;
        if gone.is_none() && self.has(Mutation::DeleteUnknownFails) {
            return Err(not_found());
        }
        Ok(gone.filter(|_| !self.has(Mutation::MetricsLost)))
    }

    fn flush_runners<'a>(
        &'a self,
        token: &'a RemoveToken,
        busy: bool,
    ) -> BoxStream<'a, Result<RunnerMetrics>> {
        let busy = busy || self.has(Mutation::FlushTakesAll);
        let stream = self.inner.flush_runners(token, busy);
        if self.has(Mutation::FlushEndsAtError) {
            return until_error(stream);
        }
        stream
    }

    fn cleanup<'a>(&'a self, token: &'a RemoveToken) -> BoxStream<'a, Result<RunnerMetrics>> {
        if self.has(Mutation::CleanupDoesNothing) {
            return futures::stream::empty().boxed();
        }
        let stream = self.inner.cleanup(token);
        if self.has(Mutation::CleanupEndsAtError) {
            return until_error(stream);
        }
        stream
    }
}
