//! A backend whose instances are there at once: each is a task that runs one job.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use reqwest::{Client, StatusCode};
use runner_manager_core::{
    Capability, CloudRunnerInstance, CloudRunnerManager, CloudRunnerState, CreateRunner,
    HealthState, InstanceId, NamePrefix, RemoveToken, Result, RunnerCredential, RunnerMetrics,
    Support,
};
use serde_json::{Value, json};

type Map = Arc<Mutex<BTreeMap<InstanceId, CloudRunnerInstance>>>;

pub(crate) struct Instances {
    prefix: NamePrefix,
    capability: Capability,
    client: Client,
    live: Map,
}

impl Instances {
    pub(crate) fn new(prefix: NamePrefix) -> Self {
        let no = Support::Unsupported("there is no machine");
        Self {
            prefix,
            capability: Capability {
                jit_config: Support::Native,
                registration_token: no,
                claim: no,
                guest: no,
                cloud_init: no,
                idle_stop: no,
                shell: no,
                console: no,
                resource_limits: no,
                support_services: no,
                outlives_manager: no,
                max_instances: None,
                max_user_data_bytes: None,
            },
            client: Client::builder().no_proxy().build().unwrap(),
            live: Map::default(),
        }
    }
}

/// The fields of a just-in-time config that the simulator's own protocol needs.
fn unpack(config: &str) -> (String, Value, Value) {
    let decode =
        |text: &str| -> Value { serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap() };
    let files = decode(config);
    let settings = decode(files[".runner"].as_str().unwrap());
    let keys = decode(files[".credentials_rsaparams"].as_str().unwrap());
    let url = settings["serverUrl"].as_str().unwrap().to_owned();
    (url, settings["agentId"].clone(), keys["secret"].clone())
}

/// What a listener does: one job, and gone.
async fn listen(client: Client, config: String) {
    let (url, runner, secret) = unpack(&config);
    let post = async |path: String, body: Value| {
        let sent = client.post(format!("{url}/_runner/{path}")).json(&body);
        let answer = sent.send().await.unwrap();
        let status = answer.status();
        (status, answer.json::<Value>().await.unwrap_or_default())
    };
    let hello = json!({ "runner": runner, "secret": secret, "nonce": "one" });
    let (_, opened) = post("session".into(), hello).await;
    let session = opened["session"].clone();
    loop {
        let (status, job) = post("poll".into(), json!({ "session": session })).await;
        match status {
            StatusCode::OK => {
                let id = &job["id"];
                let body = json!({ "session": session, "conclusion": "success" });
                post(format!("jobs/{id}/started"), body.clone()).await;
                post(format!("jobs/{id}/completed"), body).await;
                return;
            }
            StatusCode::NO_CONTENT => {}
            // The registration was removed.
            _ => return,
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
            listen(client, config).await;
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
