//! A backend that only records: launches are noted and are there at once, and nothing ever
//! comes online.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use runner_manager_core::{
    Capability, CloudRunnerInstance, CloudRunnerManager, CloudRunnerState, CreateRunner,
    HealthState, InstanceId, NamePrefix, RemoveToken, Result, RunnerMetrics, RunnerName,
};
use tokio::sync::{Notify, watch};

use crate::{PATIENCE, no_machine};

pub(crate) struct Recorder {
    prefix: NamePrefix,
    capability: Capability,
    live: Mutex<BTreeMap<InstanceId, CloudRunnerInstance>>,
    /// When each launch was asked for.
    launches: watch::Sender<Vec<Instant>>,
    /// How often the pool waited for news, which it does once after every decision.
    decisions: watch::Sender<usize>,
    news: Notify,
}

impl Recorder {
    pub(crate) fn new(prefix: NamePrefix) -> Arc<Self> {
        Arc::new(Self {
            prefix,
            capability: no_machine::capability(),
            live: Mutex::default(),
            launches: watch::Sender::default(),
            decisions: watch::Sender::default(),
            news: Notify::new(),
        })
    }

    pub(crate) fn launches(&self) -> Vec<Instant> {
        self.launches.borrow().clone()
    }

    pub(crate) async fn launched(&self, count: usize) {
        let mut launches = self.launches.subscribe();
        let enough = |launches: &Vec<Instant>| launches.len() >= count;
        let enough = tokio::time::timeout(PATIENCE, launches.wait_for(enough)).await;
        enough.expect("the launches do not come").unwrap();
    }

    /// An instance that is there already.
    pub(crate) fn add(&self, name: &RunnerName, busy: bool) {
        let id = name.instance_id().clone();
        let instance = CloudRunnerInstance {
            name: name.clone(),
            instance_id: id.clone(),
            health: HealthState::Healthy,
            health_reason: String::new(),
            state: CloudRunnerState::Active,
            busy: Some(busy),
            created_at: Timestamp::now(),
            addresses: Vec::new(),
            native_id: id.to_string(),
        };
        self.live().insert(id, instance);
    }

    /// Makes the pool decide once more, and waits until it has.
    pub(crate) async fn decide(&self) {
        let mut decisions = self.decisions.subscribe();
        let before = *decisions.borrow_and_update();
        self.news.notify_one();
        let decided = |count: &usize| *count > before;
        let decided = tokio::time::timeout(PATIENCE, decisions.wait_for(decided)).await;
        decided.expect("the pool does not decide").unwrap();
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<InstanceId, CloudRunnerInstance>> {
        self.live.lock().unwrap()
    }
}

#[async_trait]
impl CloudRunnerManager for Recorder {
    fn name_prefix(&self) -> &NamePrefix {
        &self.prefix
    }

    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn create_runner(&self, request: CreateRunner) -> Result<InstanceId> {
        let now = Instant::now();
        self.launches.send_modify(|launches| launches.push(now));
        self.add(&self.prefix.runner_name(&request.id), false);
        Ok(request.id)
    }

    async fn get_runner(&self, id: &InstanceId) -> Result<Option<CloudRunnerInstance>> {
        Ok(self.live().get(id).cloned())
    }

    async fn console(&self, _: &InstanceId) -> Result<Option<String>> {
        Ok(None)
    }

    async fn get_runners(
        &self,
        _: Option<&[CloudRunnerState]>,
    ) -> Result<Vec<CloudRunnerInstance>> {
        Ok(self.live().values().cloned().collect())
    }

    async fn delete_runner(
        &self,
        id: &InstanceId,
        _: &RemoveToken,
    ) -> Result<Option<RunnerMetrics>> {
        self.live().remove(id);
        Ok(None)
    }

    fn flush_runners<'a>(
        &'a self,
        _: &'a RemoveToken,
        _: bool,
    ) -> BoxStream<'a, Result<RunnerMetrics>> {
        stream::empty().boxed()
    }

    fn cleanup<'a>(&'a self, _: &'a RemoveToken) -> BoxStream<'a, Result<RunnerMetrics>> {
        stream::empty().boxed()
    }

    async fn changed(&self) {
        self.decisions.send_modify(|count| *count += 1);
        self.news.notified().await;
    }
}
