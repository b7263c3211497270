//! All that can fail before a launch: checked once, changing nothing.

use std::collections::BTreeMap;

use runner_manager_core::{BackendContext, Error, ErrorKind, Result};

use crate::client::{Client, absent_is_none};
use crate::cloud::LxdCloud;
use crate::config::{InstanceType, LxdConfig, invalid};
use crate::endpoint::Endpoint;
use crate::server::Server;
use crate::wire::{ImageType, Network, Profile, Project};

pub(crate) async fn connect(config: LxdConfig, context: &BackendContext) -> Result<LxdCloud> {
    config.validate()?;
    config
        .boot
        .check()
        .map_err(|e| e.with_context("key", "boot"))?;
    let (endpoint, config) = blocking(move || Ok((Endpoint::new(&config)?, config))).await?;
    let timings = &context.timings;
    let budgets = &context.budgets;
    let client = Client::new(endpoint, &config.project, budgets, timings.call_timeout);
    let server = Server::ask(&client).await?;
    server.check_type(&client, config.instance_type).await?;
    let max_instances = project(&client, &config).await?;
    let root_pool = root_pool(&client, &config).await?;
    image(&client, &config).await?;
    target(&server, &config)?;
    let managed_network = network(&client, &config).await?;
    tracing::info!(
        server = ?server.kind, version = server.version, address = client.endpoint().address(),
        "connected"
    );
    Ok(LxdCloud {
        capability: server.capability(config.instance_type, max_instances),
        launch_timeout: timings.launch_timeout,
        guest_timeout: timings.guest_timeout,
        client,
        server,
        root_pool,
        managed_network,
        config,
    })
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => {
            Err(Error::new(ErrorKind::Unexpected, "a worker thread failed").with_source(error))
        }
    }
}

/// An absent thing as an error of its key.
fn needed<T>(found: Result<T>, key: &str, what: &str, name: &str) -> Result<T> {
    absent_is_none(found)?.ok_or_else(|| {
        invalid(
            key,
            format!("names the {what} `{name}`, which the server has not"),
        )
    })
}

/// Checks that the project exists, and gives the most instances that it allows.
async fn project(client: &Client, config: &LxdConfig) -> Result<Option<u32>> {
    let name = &config.project;
    let found: Project = needed(
        client.get(&["projects", name], &[]).await,
        "project",
        "project",
        name,
    )?;
    let own = match config.instance_type {
        InstanceType::Container => "limits.containers",
        InstanceType::VirtualMachine => "limits.virtual-machines",
    };
    let limits = [own, "limits.instances"].into_iter();
    Ok(limits
        .filter_map(|key| found.config.get(key)?.parse().ok())
        .min())
}

/// Checks that the profiles exist, and gives the pool of the root disk.
async fn root_pool(client: &Client, config: &LxdConfig) -> Result<String> {
    let mut devices: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for name in &config.profiles {
        let found: Profile = needed(
            client.get(&["profiles", name], &[]).await,
            "profiles",
            "profile",
            name,
        )?;
        devices.extend(found.devices);
    }
    let is_root = |device: &&BTreeMap<String, String>| {
        device.get("type").is_some_and(|t| t == "disk")
            && device.get("path").is_some_and(|p| p == "/")
    };
    let of_profiles = devices
        .values()
        .find(is_root)
        .and_then(|d| d.get("pool"))
        .cloned();
    let Some(pool) = config.storage_pool.clone().or(of_profiles) else {
        let message = "is missing, and the profiles have no root disk; set it";
        return Err(invalid("storage_pool", message));
    };
    let used = config.volumes.iter().map(|volume| volume.pool.as_str());
    for name in used.chain([pool.as_str()]) {
        let found = client
            .get::<serde_json::Value>(&["storage-pools", name], &[])
            .await;
        needed(found, "storage_pool", "storage pool", name)?;
    }
    Ok(pool)
}

/// Checks an image of this server. One of another server is looked for at its first launch.
async fn image(client: &Client, config: &LxdConfig) -> Result<()> {
    if config.image.server.is_some() {
        return Ok(());
    }
    let found: ImageType = match (&config.image.alias, &config.image.fingerprint) {
        (Some(alias), _) => needed(
            client.get(&["images", "aliases", alias], &[]).await,
            "image.alias",
            "alias",
            alias,
        )?,
        (None, Some(print)) => needed(
            client.get(&["images", print], &[]).await,
            "image.fingerprint",
            "image",
            print,
        )?,
        (None, None) => return Ok(()),
    };
    if found.kind != config.instance_type.as_str() {
        let message = format!(
            "is for a {}, and the pool hosts {}s",
            found.kind,
            config.instance_type.as_str()
        );
        return Err(invalid("image", message));
    }
    Ok(())
}

fn target(server: &Server, config: &LxdConfig) -> Result<()> {
    match &config.target {
        Some(_) if !server.clustered => Err(invalid(
            "target",
            "is for clusters, and the server is none; leave it out",
        )),
        None if server.clustered && !config.volumes.is_empty() => Err(invalid(
            "target",
            "is missing: in a cluster, volumes need a member",
        )),
        Some(group) if group.starts_with('@') && !config.volumes.is_empty() => Err(invalid(
            "target",
            "must be a member and no group, where there are volumes",
        )),
        _ => Ok(()),
    }
}

/// Whether the server manages the network; false where none is named.
async fn network(client: &Client, config: &LxdConfig) -> Result<bool> {
    let Some(name) = &config.network else {
        return Ok(false);
    };
    let found: Network = needed(
        client.get(&["networks", name], &[]).await,
        "network",
        "network",
        name,
    )?;
    Ok(found.managed)
}
