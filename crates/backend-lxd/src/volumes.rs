//! The volumes that instances get for themselves, and those that lost their instance.

use std::collections::BTreeSet;

use jiff::Timestamp;
use reqwest::Method;
use runner_manager_core::{Error, ErrorKind, Leftover, NamePrefix, Result, RunnerName};
use serde_json::{Value, json};

use crate::client::absent_is_none;
use crate::cloud::LxdCloud;
use crate::operation::Deadline;
use crate::request::{RUNNER_KEY, is_marked, marks};
use crate::wire::{Instance, Volume};

/// The kind of leftover.
pub(crate) const VOLUME: &str = "volume";

/// The name of the volume at this place of the configuration.
pub(crate) fn name(runner: &RunnerName, index: usize) -> String {
    format!("{runner}-{index}")
}

/// Makes the volumes of an instance; those that an earlier launch has made are taken on.
pub(crate) async fn create_of(
    cloud: &LxdCloud,
    runner: &RunnerName,
    deadline: Deadline,
) -> Result<()> {
    for (index, volume) in cloud.config.volumes.iter().enumerate() {
        let mut config = serde_json::Map::new();
        for (key, value) in marks(runner) {
            config.insert(key.to_owned(), Value::String(value));
        }
        if let Some(bytes) = volume.size_bytes {
            config.insert("size".into(), Value::String(bytes.to_string()));
        }
        let name = name(runner, index);
        let body = json!({"name": name, "content_type": "filesystem", "config": config});
        let path = ["storage-pools", &volume.pool, "volumes", "custom"];
        let target = target(cloud);
        let made = cloud
            .client
            .run(Method::POST, &path, &target, Some(&body), deadline);
        match made.await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let path = ["storage-pools", &volume.pool, "volumes", "custom", &name];
                let found: Volume = cloud.client.get(&path, &target).await?;
                if !is_marked(&found.config, runner) {
                    let message = "a volume of this name exists, and it is not this manager's";
                    return Err(
                        Error::new(ErrorKind::AlreadyExists, message).with_context("volume", name)
                    );
                }
            }
            other => other?,
        }
    }
    Ok(())
}

fn target(cloud: &LxdCloud) -> Vec<(&str, &str)> {
    let target = cloud.config.target.iter();
    target.map(|t| ("target", t.as_str())).collect()
}

/// Removes the volumes of an instance that is gone. Those that are in use stay.
pub(crate) async fn remove_of(cloud: &LxdCloud, runner: &RunnerName) -> Result<()> {
    for (index, volume) in cloud.config.volumes.iter().enumerate() {
        let name = name(runner, index);
        let path = ["storage-pools", &volume.pool, "volumes", "custom", &name];
        let found: Option<Volume> = absent_is_none(cloud.client.get(&path, &target(cloud)).await)?;
        if let Some(found) = found.filter(|found| is_marked(&found.config, runner)) {
            remove(cloud, &volume.pool, &found).await?;
        }
    }
    Ok(())
}

async fn remove(cloud: &LxdCloud, pool: &str, volume: &Volume) -> Result<()> {
    if volume
        .used_by
        .as_ref()
        .is_some_and(|users| !users.is_empty())
    {
        return Ok(());
    }
    let target = match cloud.server.clustered && !volume.location.is_empty() {
        true => vec![("target", volume.location.as_str())],
        false => Vec::new(),
    };
    let path = ["storage-pools", pool, "volumes", "custom", &volume.name];
    let deadline = Deadline::after(cloud.client.timeout);
    let removed = cloud
        .client
        .run(Method::DELETE, &path, &target, None, deadline)
        .await;
    absent_is_none(removed).map(drop)
}

/// The marked volumes of every pool whose runner has no instance.
async fn orphans(
    cloud: &LxdCloud,
    prefix: &NamePrefix,
) -> Result<Vec<(String, RunnerName, Volume)>> {
    let pools: Vec<String> = cloud.client.get(&["storage-pools"], &[]).await?;
    let mut found = Vec::new();
    for pool in pools
        .iter()
        .filter_map(|path| path.rsplit('/').next()?.split('?').next())
    {
        let path = ["storage-pools", pool, "volumes", "custom"];
        let volumes: Vec<Volume> = cloud.client.get(&path, &[("recursion", "1")]).await?;
        for volume in volumes {
            let runner = volume
                .config
                .get(RUNNER_KEY)
                .and_then(|name| prefix.owned(name));
            let Some(runner) = runner.filter(|runner| is_marked(&volume.config, runner)) else {
                continue;
            };
            let rest = volume.name.strip_prefix(&format!("{runner}-"));
            if rest.is_some_and(|index| index.parse::<usize>().is_ok()) {
                found.push((pool.to_owned(), runner, volume));
            }
        }
    }
    if found.is_empty() {
        return Ok(found);
    }
    // Looked at last: whatever was launched before the volumes were listed is seen.
    let instances: Vec<Instance> = cloud
        .client
        .get(&["instances"], &[("recursion", "1")])
        .await?;
    let alive: BTreeSet<String> = instances
        .into_iter()
        .map(|instance| instance.name)
        .collect();
    found.retain(|(_, runner, _)| !alive.contains(&runner.to_string()));
    Ok(found)
}

/// Servers that do not keep the time of a volume give one of long ago.
fn is_known(time: &Timestamp) -> bool {
    *time > Timestamp::UNIX_EPOCH
}

/// The volumes that lost their instance.
pub(crate) async fn leftovers(cloud: &LxdCloud, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
    let orphans = orphans(cloud, prefix).await?;
    let shown = orphans.into_iter().map(|(pool, name, volume)| Leftover {
        kind: VOLUME,
        id: format!("{pool}/{}", volume.name),
        name,
        created_at: volume.created_at.filter(is_known),
    });
    Ok(shown.collect())
}

/// Removes a volume that lost its instance.
pub(crate) async fn remove_leftover(cloud: &LxdCloud, leftover: &Leftover) -> Result<()> {
    for (pool, _, volume) in orphans(cloud, leftover.name.prefix()).await? {
        if format!("{pool}/{}", volume.name) == leftover.id {
            remove(cloud, &pool, &volume).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_long_ago_says_nothing() {
        let volume = |time: &str| {
            let volume = serde_json::json!({"name": "a", "created_at": time});
            let volume: Volume = serde_json::from_value(volume).expect("a volume");
            volume.created_at.filter(is_known)
        };
        assert_eq!(volume("0001-01-01T00:00:00Z"), None);
        assert!(volume("2026-11-25T08:00:00Z").is_some());
    }
}
