//! A manager that has the bugs that lie above the cloud.

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use runner_manager_core::{
    Capability, CloudRunnerInstance, CloudRunnerManager, CloudRunnerState, Connected, CreateRunner,
    Error, ErrorKind, InstanceId, NamePrefix, RemoveToken, Result, RunnerCredential, RunnerMetrics,
    Secret, SupportServiceConfig,
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
        match self.mutation {
            Some(Mutation::OwnIds) => request.id = InstanceId::random(),
            Some(Mutation::ServicesIgnored) => request.support = SupportServiceConfig::default(),
            Some(Mutation::CredentialIgnored) => {
                let url = "https://github.com/octo".parse().unwrap();
                let token = Secret::new("T");
                request.credential = RunnerCredential::RegistrationToken { url, token };
            }
            _ => {}
        }
        self.inner.create_runner(request).await
    }

    async fn get_runner(&self, id: &InstanceId) -> Result<Option<CloudRunnerInstance>> {
        let found = match self.inner.get_runner(id).await {
            Err(_) if self.has(Mutation::FailedGetIsNone) => return Ok(None),
            found => found?,
        };
        if found.is_none() && self.has(Mutation::GetUnknownFails) {
            return Err(not_found());
        }
        Ok(found.map(|mut runner| {
            if self.has(Mutation::NativeIdMissing) {
                runner.native_id.clear();
            }
            runner
        }))
    }

    async fn console(&self, id: &InstanceId) -> Result<Option<String>> {
        self.inner.console(id).await
    }

    async fn get_runners(
        &self,
        states: Option<&[CloudRunnerState]>,
    ) -> Result<Vec<CloudRunnerInstance>> {
        let is_empty = states.is_some_and(<[_]>::is_empty);
        let ignored = self.has(Mutation::FilterIgnored)
            || (is_empty && self.has(Mutation::EmptyFilterIsNone));
        let states = states.filter(|_| !ignored);
        let mut runners = match self.inner.get_runners(states).await {
            Err(_) if self.has(Mutation::FailedListIsEmpty) => return Ok(Vec::new()),
            answer => answer?,
        };
        match self.mutation {
            Some(Mutation::EmptyListFails) if runners.is_empty() => return Err(not_found()),
            Some(Mutation::SuccessIsFailure) => return Err(not_found()),
            Some(Mutation::Unordered) => runners.reverse(),
            Some(Mutation::NativeIdsRepeat) => {
                runners.iter_mut().for_each(|r| r.native_id = "1".into());
            }
            _ => {}
        }
        Ok(runners)
    }

    async fn delete_runner(
        &self,
        id: &InstanceId,
        token: &RemoveToken,
    ) -> Result<Option<RunnerMetrics>> {
        if self.has(Mutation::BusyIsKept) {
            let found = self.inner.get_runner(id).await?;
            if found.is_some_and(|runner| runner.busy == Some(true)) {
                return Err(Error::new(ErrorKind::Busy, "a planted bug"));
            }
        }
        let mut gone = self.inner.delete_runner(id, token).await?;
        if gone.is_none() && self.has(Mutation::DeleteUnknownFails) {
            return Err(not_found());
        }
        if self.has(Mutation::SetAsideForgotten) {
            gone.iter_mut()
                .for_each(|metrics| metrics.set_aside.clear());
        }
        Ok(gone.filter(|_| !self.has(Mutation::MetricsLost)))
    }

    fn flush_runners<'a>(
        &'a self,
        token: &'a RemoveToken,
        busy: bool,
    ) -> BoxStream<'a, Result<RunnerMetrics>> {
        match self.mutation {
            Some(Mutation::FlushTakesAll) => self.inner.flush_runners(token, true),
            Some(Mutation::FlushSparesBusy) => self.inner.flush_runners(token, false),
            Some(Mutation::FlushEndsAtError) => until_error(self.inner.flush_runners(token, busy)),
            Some(Mutation::EmptyFlushFails) => {
                let failure = futures::stream::iter([Err(not_found())]);
                self.inner.flush_runners(token, busy).chain(failure).boxed()
            }
            Some(Mutation::FlushWithoutCleanup) => futures::stream::empty().boxed(),
            _ => self.inner.flush_runners(token, busy),
        }
    }

    fn cleanup<'a>(&'a self, token: &'a RemoveToken) -> BoxStream<'a, Result<RunnerMetrics>> {
        match self.mutation {
            Some(Mutation::CleanupDoesNothing) => futures::stream::empty().boxed(),
            Some(Mutation::CleanupEndsAtError) => until_error(self.inner.cleanup(token)),
            Some(Mutation::CleanupTakesAll) => self.inner.flush_runners(token, true),
            _ => self.inner.cleanup(token),
        }
    }
}
