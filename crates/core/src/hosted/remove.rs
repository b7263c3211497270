//! Removing runners: delete, flush, cleanup.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::HostedRunners;
use crate::{
    Cloud, CloudInstance, CloudRunnerState, ErrorKind, HealthState, InstanceId, Leftover, Result,
    RunnerMetrics, RunnerName, StopMode, StopOutcome, Support,
};

/// How long is waited for an instance to come down whose answer broke off, and the pause between
/// looks at it.
const COMES_DOWN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// Splits instances into the newest of each name and the older twins.
pub(super) fn newest_of_each_name(
    mut instances: Vec<CloudInstance>,
) -> (Vec<CloudInstance>, Vec<CloudInstance>) {
    instances.sort_by(|a, b| (b.created_at, &b.native_id).cmp(&(a.created_at, &a.native_id)));
    let mut seen = std::collections::HashSet::<RunnerName>::new();
    instances
        .into_iter()
        .partition(|instance| seen.insert(instance.name.clone()))
}

impl<C: Cloud> HostedRunners<C> {
    pub(super) async fn delete(&self, id: &InstanceId) -> Result<Option<RunnerMetrics>> {
        let name = self.prefix.runner_name(id);
        let named = |e: crate::Error| e.with_context("runner", &name);
        let get = self.within(self.timings.call_timeout, "get", self.cloud.get(&name));
        match get.await.map_err(named)? {
            Some(instance) => self.take_down(instance).await.map(Some),
            None => Ok(None),
        }
    }

    /// Reads the metrics, then ends the instance.
    async fn take_down(&self, instance: CloudInstance) -> Result<RunnerMetrics> {
        let metrics = self.extract(&instance).await;
        self.within(
            self.timings.call_timeout,
            "terminate",
            self.cloud.terminate(&instance),
        )
        .await
        .map_err(|e| e.with_context("runner", &instance.name))?;
        Ok(metrics)
    }

    pub(super) fn flush(&self, mode: StopMode) -> BoxStream<'_, Result<RunnerMetrics>> {
        let removed = futures::stream::once(self.list())
            .map_ok(move |instances| {
                futures::stream::iter(instances)
                    .map(move |instance| self.flush_one(instance, mode))
                    .buffer_unordered(self.timings.concurrency.max(1))
                    .filter_map(|outcome| std::future::ready(outcome.transpose()))
            })
            .try_flatten();
        removed.chain(self.sweep()).boxed()
    }

    async fn flush_one(
        &self,
        instance: CloudInstance,
        mode: StopMode,
    ) -> Result<Option<RunnerMetrics>> {
        if instance.state != CloudRunnerState::Active {
            // What is being made holds no job, and what is stopped is left to cleanup.
            return match (&instance.state, mode) {
                (CloudRunnerState::Created, StopMode::IdleOrBusy) => {
                    self.take_down(instance).await.map(Some)
                }
                _ => Ok(None),
            };
        }
        if let Support::Unsupported(_) = self.cloud.capability().idle_stop {
            return match mode {
                StopMode::Idle => Ok(None),
                StopMode::IdleOrBusy => self.take_down(instance).await.map(Some),
            };
        }
        let stop = async { self.cloud.guest(&instance).await?.stop_runner(mode).await };
        match self
            .within(self.timings.guest_timeout, "stop runner", stop)
            .await
        {
            Ok(StopOutcome::Busy) => Ok(None),
            // No runner: either not installed yet, or done; the health rules know which.
            Ok(StopOutcome::NotRunning) if mode == StopMode::Idle => Ok(None),
            Ok(StopOutcome::Stopped | StopOutcome::NotRunning) => {
                self.take_down(instance).await.map(Some)
            }
            Err(_) if mode == StopMode::IdleOrBusy => self.take_down(instance).await.map(Some),
            // The end of a runner ends its instance too, now and then before the answer is out.
            Err(error)
                if error.kind() == ErrorKind::Unreachable && self.comes_down(&instance).await =>
            {
                self.take_down(instance).await.map(Some)
            }
            Err(error) => Err(error.with_context("runner", &instance.name)),
        }
    }

    /// Whether an instance is down or gone within the next seconds: no job can run there any more.
    /// In a state that is not known one may.
    async fn comes_down(&self, instance: &CloudInstance) -> bool {
        use CloudRunnerState::{Active, Deleted, Error, Stopped};
        let looks = async {
            loop {
                match self.cloud.get(&instance.name).await?.map(|i| i.state) {
                    Some(Active) => tokio::time::sleep(PAUSE).await,
                    state => return Ok(matches!(state, None | Some(Stopped | Deleted | Error))),
                }
            }
        };
        self.within(COMES_DOWN, "get", looks).await.unwrap_or(false)
    }

    pub(super) fn sweep(&self) -> BoxStream<'_, Result<RunnerMetrics>> {
        let unhealthy = futures::stream::once(self.list())
            .map_ok(move |instances| {
                let (newest, twins) = newest_of_each_name(instances);
                let twins = twins.into_iter().map(|i| (i, true));
                futures::stream::iter(newest.into_iter().map(|i| (i, false)).chain(twins))
                    .map(move |(instance, is_twin)| self.sweep_one(instance, is_twin))
                    .buffer_unordered(self.timings.concurrency.max(1))
                    .filter_map(|outcome| std::future::ready(outcome.transpose()))
            })
            .try_flatten();
        let leftovers = futures::stream::once(self.sweep_leftovers())
            .filter_map(|outcome| std::future::ready(outcome.err().map(Err)));
        unhealthy.chain(leftovers).boxed()
    }

    async fn sweep_one(
        &self,
        instance: CloudInstance,
        is_twin: bool,
    ) -> Result<Option<RunnerMetrics>> {
        if self.clock.age(instance.created_at) < self.timings.grace {
            return Ok(None);
        }
        let (assessment, _) = self.look(&instance).await;
        let busy_twin = is_twin && assessment.reason == "a job runs";
        if assessment.health != HealthState::Unhealthy && (!is_twin || busy_twin) {
            return Ok(None);
        }
        tracing::info!(runner = %instance.name, reason = assessment.reason, "remove unhealthy runner");
        self.take_down(instance).await.map(Some)
    }

    /// Removes leftovers past the grace period; the first failure is reported, the others are
    /// tried all the same.
    async fn sweep_leftovers(&self) -> Result<()> {
        let list = self.cloud.leftovers(&self.prefix);
        let found = self
            .within(self.timings.call_timeout, "list leftovers", list)
            .await?;
        let due = self.due(found);
        let removed = futures::stream::iter(due).map(|leftover| async move {
            tracing::info!(runner = %leftover.name, kind = leftover.kind, id = leftover.id, "remove leftover");
            let remove = self.cloud.remove_leftover(&leftover);
            self.within(self.timings.call_timeout, "remove leftover", remove).await.map_err(|e| {
                e.with_context(leftover.kind, &leftover.id).with_context("runner", &leftover.name)
            })
        });
        let outcomes: Vec<Result<()>> = removed
            .buffer_unordered(self.timings.concurrency.max(1))
            .collect()
            .await;
        outcomes.into_iter().collect()
    }

    /// The leftovers that are older than the grace period. One of unknown age counts from when
    /// it was first seen.
    fn due(&self, found: Vec<Leftover>) -> Vec<Leftover> {
        let now = self.clock.now();
        let mut seen = self
            .first_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut still = HashMap::new();
        let mut due = Vec::new();
        for leftover in found {
            let key = (leftover.kind, leftover.id.clone());
            let since = seen.get(&key).copied().unwrap_or(now);
            still.insert(key, since);
            if self.clock.age(leftover.created_at.unwrap_or(since)) >= self.timings.grace {
                due.push(leftover);
            }
        }
        *seen = still;
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use async_trait::async_trait;
    use jiff::Timestamp;

    use super::*;
    use crate::{
        Capability, Error, ExchangeFile, Guest, GuestFile, GuestProbe, LaunchSpec, ManualClock,
        NamePrefix, Timings,
    };

    /// One instance, whose guest breaks off when it is asked for something.
    struct OneInstance {
        capability: Capability,
        instance: CloudInstance,
        error: ErrorKind,
        /// After so many looks it is in another state.
        looks: AtomicU32,
        then: Option<CloudRunnerState>,
        is_gone: Arc<AtomicBool>,
    }

    fn all() -> Capability {
        Capability {
            jit_config: Support::Native,
            registration_token: Support::Native,
            claim: Support::Native,
            guest: Support::Native,
            cloud_init: Support::Native,
            idle_stop: Support::Native,
            shell: Support::Native,
            console: Support::Native,
            resource_limits: Support::Native,
            support_services: Support::Native,
            outlives_manager: Support::Native,
            max_instances: None,
            max_user_data_bytes: None,
        }
    }

    struct Breaks(ErrorKind);

    #[async_trait]
    impl Guest for Breaks {
        async fn probe(&self) -> Result<GuestProbe> {
            Err(Error::new(self.0, "the connection broke"))
        }

        async fn stop_runner(&self, _: StopMode) -> Result<StopOutcome> {
            Err(Error::new(self.0, "the connection broke"))
        }

        async fn read_file(&self, _: ExchangeFile) -> Result<GuestFile> {
            Err(Error::new(self.0, "the connection broke"))
        }
    }

    #[async_trait]
    impl Cloud for OneInstance {
        fn capability(&self) -> &Capability {
            &self.capability
        }

        async fn launch(&self, _: &LaunchSpec) -> Result<CloudInstance> {
            unreachable!("nothing is launched")
        }

        async fn get(&self, _: &RunnerName) -> Result<Option<CloudInstance>> {
            let left = self.looks.load(Ordering::Relaxed);
            self.looks.store(left.saturating_sub(1), Ordering::Relaxed);
            let mut found = self.instance.clone();
            if left > 0 {
                return Ok(Some(found));
            }
            Ok(self.then.clone().map(|state| {
                found.state = state;
                found
            }))
        }

        async fn list(&self, _: &NamePrefix) -> Result<Vec<CloudInstance>> {
            Ok(vec![self.instance.clone()])
        }

        async fn terminate(&self, _: &CloudInstance) -> Result<()> {
            self.is_gone.store(true, Ordering::Relaxed);
            Ok(())
        }

        async fn leftovers(&self, _: &NamePrefix) -> Result<Vec<Leftover>> {
            Ok(Vec::new())
        }

        async fn remove_leftover(&self, _: &Leftover) -> Result<()> {
            unreachable!("nothing is left over")
        }

        async fn guest(&self, _: &CloudInstance) -> Result<Box<dyn Guest>> {
            Ok(Box::new(Breaks(self.error)))
        }

        async fn console(&self, _: &CloudInstance) -> Result<Option<String>> {
            Ok(None)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_its_runner_took_along_goes_and_another_stays() {
        let prefix = NamePrefix::new("app").expect("a prefix");
        let paused = CloudRunnerState::Unexpected("paused".into());
        for (error, looks, then, goes) in [
            (
                ErrorKind::Unreachable,
                0,
                Some(CloudRunnerState::Stopped),
                true,
            ),
            (
                ErrorKind::Unreachable,
                5,
                Some(CloudRunnerState::Deleted),
                true,
            ),
            (ErrorKind::Unreachable, 1, None, true),
            (ErrorKind::Unreachable, u32::MAX, None, false),
            (ErrorKind::Unreachable, 1, Some(paused), false),
            (
                ErrorKind::Unreachable,
                1,
                Some(CloudRunnerState::Unknown),
                false,
            ),
            (ErrorKind::PermissionDenied, 0, None, false),
        ] {
            let is_gone = Arc::new(AtomicBool::new(false));
            let now = Timestamp::UNIX_EPOCH;
            let cloud = OneInstance {
                capability: all(),
                instance: CloudInstance {
                    name: prefix.runner_name(&InstanceId::random()),
                    native_id: "1".into(),
                    state: CloudRunnerState::Active,
                    created_at: now,
                    addresses: Vec::new(),
                },
                error,
                looks: AtomicU32::new(looks),
                then,
                is_gone: is_gone.clone(),
            };
            let clock = Arc::new(ManualClock::new(now));
            let runners = HostedRunners::new(cloud, prefix.clone(), Timings::default(), clock);
            let flushed: Vec<_> = runners.flush(StopMode::Idle).collect().await;
            assert_eq!(flushed.len(), 1, "{error:?} {looks}");
            assert_eq!(flushed[0].is_ok(), goes, "{error:?} {looks}");
            assert_eq!(is_gone.load(Ordering::Relaxed), goes, "{error:?} {looks}");
        }
    }
}
