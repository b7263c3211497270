//! Launching an instance.

use std::time::Duration;

use reqwest::Method;
use runner_manager_core::{
    CloudInstance, CloudRunnerState, Effect, Error, ErrorKind, LaunchSpec, Result, RunnerName,
    Secret,
};
use serde_json::json;

use crate::api::{state, was_started};
use crate::cloud::{LxdCloud, show};
use crate::operation::Deadline;
use crate::request::{self, START, USER_DATA_KEY};
use crate::wire::Instance;
use crate::{remove, volumes};

/// How often a launch begins anew when another of its name fails beside it.
const ROUNDS: u32 = 3;

/// How often an instance that another launch of its name has made is started here, and the pause
/// before it is looked at again.
const STARTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Launches an instance, or finishes what an earlier launch of its name has begun.
pub(crate) async fn launch(cloud: &LxdCloud, spec: &LaunchSpec) -> Result<CloudInstance> {
    let user_data = request::user_data(&cloud.config, spec)?;
    let launch = Launch {
        cloud,
        name: &spec.name,
        instance: spec.name.to_string(),
        user_data,
        deadline: Deadline::after(cloud.launch_timeout),
    };
    let made = launch.make().await.map(|made| show(&spec.name, &made));
    if made.is_err() && !cloud.config.volumes.is_empty() {
        // Those of an instance that exists are in use, and stay until it goes.
        if let Err(left) = volumes::remove_of(cloud, &spec.name).await {
            return made.map_err(|error| {
                error
                    .with_effect(Effect::Partial)
                    .with_context("not removed", left)
            });
        }
    }
    made
}

struct Launch<'a> {
    cloud: &'a LxdCloud,
    name: &'a RunnerName,
    instance: String,
    user_data: Secret,
    deadline: Deadline,
}

impl Launch<'_> {
    async fn make(&self) -> Result<Instance> {
        for _ in 0..ROUNDS {
            volumes::create_of(self.cloud, self.name, self.deadline).await?;
            match self.create().await {
                Ok(()) if self.cloud.server.has(START) => {}
                Ok(()) => self.start_own().await?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    self.finish().await?;
                }
                Err(error) => return Err(error),
            }
            if let Some(instance) = remove::find(self.cloud, self.name).await? {
                return Ok(instance);
            }
        }
        let message = "the instance vanishes again and again during its launch";
        Err(Error::new(ErrorKind::NotFound, message).with_effect(Effect::Unknown))
    }

    async fn create(&self) -> Result<()> {
        let target = self.cloud.config.target.iter();
        let query: Vec<(&str, &str)> = target.map(|t| ("target", t.as_str())).collect();
        let body = request::body(self.cloud, self.name, &self.user_data);
        let path = ["instances"];
        let client = &self.cloud.client;
        let created = client.run(Method::POST, &path, &query, Some(&body), self.deadline);
        created.await
    }

    /// Takes on what another launch of this name has made, and starts it if that was not done.
    ///
    /// The other launch may go on meanwhile. What is refused here because of it has come about
    /// all the same at the next look, or is refused for good.
    async fn finish(&self) -> Result<()> {
        let client = &self.cloud.client;
        let mut starts = 0;
        loop {
            client.settle(&self.instance, self.deadline).await?;
            let Some(instance) = remove::find(self.cloud, self.name).await? else {
                return self.refuse_stranger().await;
            };
            if was_started(&instance) {
                return Ok(());
            }
            starts += 1;
            match self.start_afresh().await {
                Err(error) if is_refused(&error) && starts < STARTS => {
                    tokio::time::sleep(PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    /// Starts what was made with a credential that may be void by now. User-data is read at the
    /// start.
    async fn start_afresh(&self) -> Result<()> {
        let fresh = json!({"config": {USER_DATA_KEY: self.user_data.expose()}});
        let path = ["instances", &self.instance];
        let client = &self.cloud.client;
        let changed = client.run(Method::PATCH, &path, &[], Some(&fresh), self.deadline);
        changed.await?;
        self.start().await
    }

    /// An instance that was in the way is gone, or it is a stranger's.
    async fn refuse_stranger(&self) -> Result<()> {
        let path = ["instances", self.instance.as_str()];
        let asked = self.cloud.client.get::<Instance>(&path, &[]).await;
        match crate::client::absent_is_none(asked)? {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::AlreadyExists,
                "an instance of this name exists, and it is not this manager's",
            )),
        }
    }

    /// Starts what was made here, unless another launch of the name has done so.
    async fn start_own(&self) -> Result<()> {
        let Err(error) = self.start().await else {
            return Ok(());
        };
        if error.kind() == ErrorKind::AlreadyExists {
            return self.finish().await;
        }
        if error.kind() == ErrorKind::InvalidRequest {
            let client = &self.cloud.client;
            client.settle(&self.instance, self.deadline).await?;
            let found = remove::find(self.cloud, self.name).await?;
            if found.is_some_and(|instance| runs(&instance)) {
                return Ok(());
            }
        }
        Err(error)
    }

    async fn start(&self) -> Result<()> {
        let body = json!({"action": "start", "timeout": 30});
        let path = ["instances", &self.instance, "state"];
        let client = &self.cloud.client;
        let started = client.run(Method::PUT, &path, &[], Some(&body), self.deadline);
        started.await
    }
}

/// Whether the server would not do something as things stand.
fn is_refused(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidRequest | ErrorKind::AlreadyExists
    )
}

/// Whether an instance runs: one whose start failed counts as started, and does not.
fn runs(instance: &Instance) -> bool {
    state(&instance.status, true) == CloudRunnerState::Active
}
