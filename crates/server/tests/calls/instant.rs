//! A backend whose instances are there at once: each is a task that runs one job.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use reqwest::Client;
use runner_manager_core::{
    Capability, CloudRunnerInstance, CloudRunnerManager, CloudRunnerState, CreateRunner,
    HealthState, InstanceId, NamePrefix, RemoveToken, Result, RunnerCredential, RunnerMetrics,
};

use crate::no_machine;

type Map = Arc<Mutex<BTreeMap<InstanceId, CloudRunnerInstance>>>;

pub(crate) struct Instances {
    prefix: NamePrefix,
    capability: Capability,
    client: Client,
    live: Map,
}

impl Instances {
    pub(crate) fn new(prefix: NamePrefix) -> Self {
        Self {
            prefix,
            capability: no_machine::capability(),
            client: Client::builder().no_proxy().build().unwrap(),
            live: Map::default(),
        }
    }
}

#[async_trait]
impl CloudRunnerManager for Instances {
    fn name_prefix(&self) -> &NamePrefix {
        &self.prefix
    }

    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn create_runner(&self, request: CreateRunner) -> Result<InstanceId> {
        let RunnerCredential::JitConfig(config) = &request.credential else {
            panic!("only just-in-time configs");
        };
        let id = request.id.clone();
        let instance = CloudRunnerInstance {
            name: self.prefix.runner_name(&id),
            instance_id: id.clone(),
            health: HealthState::Healthy,
            health_reason: String::new(),
            state: CloudRunnerState::Active,
            busy: None,
            created_at: Timestamp::now(),
            addresses: Vec::new(),
            native_id: id.to_string(),
        };
        self.live.lock().unwrap().insert(id.clone(), instance);
        let (live, client) = (self.live.clone(), self.client.clone());
        let (config, ended) = (config.expose().to_owned(), id.clone());
        tokio::spawn(async move {
            no_machine::listen(client, config).await;
            live.lock().unwrap().remove(&ended);
        });
        Ok(id)
    }

    async fn get_runner(&self, id: &InstanceId) -> Result<Option<CloudRunnerInstance>> {
        Ok(self.live.lock().unwrap().get(id).cloned())
    }

    async fn console(&self, _: &InstanceId) -> Result<Option<String>> {
        Ok(None)
    }

    async fn get_runners(
        &self,
        _: Option<&[CloudRunnerState]>,
    ) -> Result<Vec<CloudRunnerInstance>> {
        Ok(self.live.lock().unwrap().values().cloned().collect())
    }

    async fn delete_runner(
        &self,
        id: &InstanceId,
        _: &RemoveToken,
    ) -> Result<Option<RunnerMetrics>> {
        self.live.lock().unwrap().remove(id);
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
}
