//! The one implementation of the contract's rules.

mod create;
mod extract;
mod health;
mod remove;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;

pub use health::{Assessment, assess};

use crate::{
    Capability, Clock, Cloud, CloudInstance, CloudRunnerInstance, CloudRunnerManager,
    CloudRunnerState, CreateRunner, Error, ErrorKind, Guest, InstanceId, NamePrefix, RemoveToken,
    Result, Retry, RunnerMetrics, Support,
};

/// The deadlines of the shared rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timings {
    /// How long a launch may take before it is undone. Default: 300 s.
    pub launch_timeout: Duration,
    /// How long an instance may take until its runner is installed. Default: 1 h.
    pub boot_timeout: Duration,
    /// How old a thing must be before cleanup may remove it. Default: 5 min.
    pub grace: Duration,
    /// How long one look into a guest may take. Default: 30 s.
    pub guest_timeout: Duration,
    /// How long one other call to the cloud may take. Default: 60 s.
    pub call_timeout: Duration,
    /// How many instances are worked on at once. Default: 16.
    pub concurrency: usize,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            launch_timeout: Duration::from_secs(300),
            boot_timeout: Duration::from_secs(3600),
            grace: Duration::from_secs(300),
            guest_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            concurrency: 16,
        }
    }
}

/// A [`CloudRunnerManager`] on top of a [`Cloud`].
pub struct HostedRunners<C> {
    cloud: C,
    prefix: NamePrefix,
    timings: Timings,
    clock: Arc<dyn Clock>,
    /// When leftovers of unknown age were first seen, by kind and id.
    first_seen: Mutex<HashMap<(&'static str, String), Timestamp>>,
}

impl<C: Cloud> HostedRunners<C> {
    /// Puts the contract's rules on top of a cloud.
    pub fn new(cloud: C, prefix: NamePrefix, timings: Timings, clock: Arc<dyn Clock>) -> Self {
        Self {
            cloud,
            prefix,
            timings,
            clock,
            first_seen: Mutex::default(),
        }
    }

    /// The cloud beneath.
    pub fn cloud(&self) -> &C {
        &self.cloud
    }

    /// Gives a call its deadline, and its error the operation, in the one place for both.
    async fn within<T>(
        &self,
        limit: Duration,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|e| e.with_context("operation", operation)),
            Err(_) => Err(
                Error::new(ErrorKind::TimedOut, "no answer before the deadline")
                    .with_retry(Retry::After(limit))
                    .with_context("operation", operation)
                    .with_context("deadline", format!("{} s", limit.as_secs_f64())),
            ),
        }
    }

    async fn list(&self) -> Result<Vec<CloudInstance>> {
        self.within(
            self.timings.call_timeout,
            "list",
            self.cloud.list(&self.prefix),
        )
        .await
    }

    async fn show(&self, instance: CloudInstance) -> CloudRunnerInstance {
        let (assessment, probe) = self.look(&instance).await;
        CloudRunnerInstance {
            instance_id: instance.name.instance_id().clone(),
            name: instance.name,
            health: assessment.health,
            health_reason: assessment.reason,
            state: instance.state,
            busy: probe.map(|probe| probe.worker),
            created_at: instance.created_at,
            addresses: instance.addresses,
            native_id: instance.native_id,
        }
    }
}

#[async_trait]
impl<C: Cloud> CloudRunnerManager for HostedRunners<C> {
    fn name_prefix(&self) -> &NamePrefix {
        &self.prefix
    }

    fn capability(&self) -> &Capability {
        self.cloud.capability()
    }

    async fn create_runner(&self, request: CreateRunner) -> Result<InstanceId> {
        self.create(request).await
    }

    async fn get_runner(&self, id: &InstanceId) -> Result<Option<CloudRunnerInstance>> {
        let name = self.prefix.runner_name(id);
        let found = self
            .within(self.timings.call_timeout, "get", self.cloud.get(&name))
            .await?;
        Ok(match found {
            Some(instance) => Some(self.show(instance).await),
            None => None,
        })
    }

    async fn get_runners(
        &self,
        states: Option<&[CloudRunnerState]>,
    ) -> Result<Vec<CloudRunnerInstance>> {
        let mut instances = remove::newest_of_each_name(self.list().await?).0;
        instances.retain(|i| states.is_none_or(|wanted| wanted.contains(&i.state)));
        let shown = futures::stream::iter(instances)
            .map(|instance| async move { Ok(self.show(instance).await) })
            .buffer_unordered(self.timings.concurrency.max(1));
        let mut runners: Vec<CloudRunnerInstance> = shown.try_collect::<Vec<_>>().await?;
        runners.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        Ok(runners)
    }

    async fn delete_runner(
        &self,
        id: &InstanceId,
        _token: &RemoveToken,
    ) -> Result<Option<RunnerMetrics>> {
        self.delete(id).await
    }

    async fn console(&self, id: &InstanceId) -> Result<Option<String>> {
        if matches!(self.capability().console, Support::Unsupported(_)) {
            return Ok(None);
        }
        let name = self.prefix.runner_name(id);
        let read = async {
            match self.cloud.get(&name).await? {
                Some(instance) => self.cloud.console(&instance).await,
                None => Ok(None),
            }
        };
        self.within(self.timings.call_timeout, "console", read)
            .await
    }

    fn flush_runners<'a>(
        &'a self,
        _token: &'a RemoveToken,
        busy: bool,
    ) -> BoxStream<'a, Result<RunnerMetrics>> {
        self.flush(if busy {
            crate::StopMode::IdleOrBusy
        } else {
            crate::StopMode::Idle
        })
    }

    async fn addresses(&self, id: &InstanceId) -> Result<Option<Vec<IpAddr>>> {
        let name = self.prefix.runner_name(id);
        let get = self.cloud.get(&name);
        let found = self.within(self.timings.call_timeout, "get", get).await?;
        Ok(found.map(|instance| instance.addresses))
    }

    async fn guest(&self, id: &InstanceId) -> Result<Option<Box<dyn Guest>>> {
        let name = self.prefix.runner_name(id);
        let limit = self.timings.call_timeout;
        match self.within(limit, "get", self.cloud.get(&name)).await? {
            Some(found) => {
                let guest = self.cloud.guest(&found);
                self.within(limit, "open guest", guest).await.map(Some)
            }
            None => Ok(None),
        }
    }

    fn cleanup<'a>(&'a self, _token: &'a RemoveToken) -> BoxStream<'a, Result<RunnerMetrics>> {
        self.sweep()
    }

    async fn changed(&self) {
        self.cloud.changed().await;
    }
}
