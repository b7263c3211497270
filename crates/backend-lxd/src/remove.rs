//! Finding an instance, and ending it.

use std::time::Duration;

use reqwest::Method;
use runner_manager_core::{CloudRunnerState, ErrorKind, Result, RunnerName};
use serde_json::json;

use crate::client::absent_is_none;
use crate::cloud::LxdCloud;
use crate::operation::Deadline;
use crate::request::is_marked;
use crate::volumes;
use crate::wire::Instance;

/// The first pause before an end is tried again while something else is being done to the
/// instance, and the longest; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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
    let mut pause = FIRST_PAUSE;
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
            // stop, the server's own deletion of what is ephemeral. Not all of it is shown as an
            // operation that could be waited for.
            Err(error) if error.kind() == ErrorKind::InvalidRequest && deadline.left() > pause => {
                cloud.client.settle(&instance, deadline).await?;
                stop(cloud, &instance, deadline).await?;
                tokio::time::sleep(pause).await;
                pause = LONGEST_PAUSE.min(2 * pause);
            }
            Err(error) => return Err(error),
        }
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
