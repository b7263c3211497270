//! Finding an instance, and ending it.

use reqwest::Method;
use runner_manager_core::{CloudRunnerState, ErrorKind, Result, RunnerName};
use serde_json::json;

use crate::client::absent_is_none;
use crate::cloud::LxdCloud;
use crate::operation::Deadline;
use crate::request::is_marked;
use crate::volumes;
use crate::wire::Instance;

/// How often an end is tried while other operations on the instance come in between.
const ATTEMPTS: u32 = 4;

/// The instance of this name, if it is this manager's.
pub(crate) async fn find(cloud: &LxdCloud, name: &RunnerName) -> Result<Option<Instance>> {
    let path = ["instances", &name.to_string()];
    let asked = cloud.client.get(&path, &[("recursion", "1")]).await;
    let found: Option<Instance> = absent_is_none(asked)?;
    Ok(found.filter(|instance| is_marked(&instance.config, name)))
}

/// Ends an instance, with its volumes.
pub(crate) async fn terminate(
    cloud: &LxdCloud,
    name: &RunnerName,
    state: &CloudRunnerState,
) -> Result<()> {
    let deadline = Deadline::after(cloud.client.timeout);
    let instance = name.to_string();
    if *state == CloudRunnerState::Active {
        stop(cloud, &instance, deadline).await?;
    }
    let mut attempt = 1;
    loop {
        let path = ["instances", &instance];
        let deleted = cloud
            .client
            .run(Method::DELETE, &path, &[], None, deadline)
            .await;
        match deleted {
            Ok(()) => break,
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            // It runs by now, or something else is being done to it: a launch that goes on, a
            // stop, the server's own deletion of what is ephemeral.
            Err(error) if error.kind() == ErrorKind::InvalidRequest && attempt < ATTEMPTS => {
                cloud.client.settle(&instance, deadline).await?;
                stop(cloud, &instance, deadline).await?;
            }
            Err(error) => return Err(error),
        }
        attempt += 1;
    }
    volumes::remove_of(cloud, name).await
}

/// Stops an instance as a power cut would. One that does not run is `Ok`.
async fn stop(cloud: &LxdCloud, instance: &str, deadline: Deadline) -> Result<()> {
    let body = json!({"action": "stop", "force": true, "timeout": 30});
    let path = ["instances", instance, "state"];
    match cloud
        .client
        .run(Method::PUT, &path, &[], Some(&body), deadline)
        .await
    {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        // Whether that is so is for the deletion to say.
        Err(error) if error.kind() == ErrorKind::InvalidRequest => Ok(()),
        other => other,
    }
}
