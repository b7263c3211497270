//! Launching a server, or leaving nothing.

use std::time::Duration;

use runner_manager_core::{
    BootConfig, Bootstrap, CloudInstance, CloudRunnerState, Effect, Error, ErrorKind, ExtraPart,
    LaunchSpec, PartKind, Result, Retry, RunnerName,
};
use runner_manager_guest_ssh::{RunnerKeys, Turn};
use serde_json::{Map, Value, json};

use crate::cloud::{Os, blocking};
use crate::mark::MARK;
use crate::servers::{self, Server};
use crate::{keypairs, network, remove, volumes};

/// The most bytes of user-data: Nova takes 65,535 characters of base64.
pub(crate) const MAX_USER_DATA: u32 = 49_149;

/// The pauses between two looks at a server that is being made: from the first to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

/// The pause between two tries to get the turn.
const TURN_PAUSE: Duration = Duration::from_millis(200);

/// How often a server is looked for whose creation gave no clear answer.
const LOOKS: u32 = 4;

/// Launches the server of a runner, or adopts the one that is there, and waits until it is
/// active.
///
/// # On failure
/// What was made beside the server is removed; the server itself is left to the caller.
pub(crate) async fn launch(os: &Os, spec: &LaunchSpec) -> Result<CloudInstance> {
    let name = &spec.name;
    let limit = os.launch_limit;
    let launched = match tokio::time::timeout(limit, make(os, spec)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(
            ErrorKind::TimedOut,
            "the server was not active before the deadline",
        )
        .with_retry(Retry::After(limit))
        .with_effect(Effect::Unknown)
        .with_context("deadline", format!("{} s", limit.as_secs_f64()))),
    };
    match launched {
        Ok(instance) => Ok(instance),
        Err(error) => Err(undo(os, name, error)
            .await
            .with_context("flavor", &os.config.flavor)),
    }
}

/// The turn to make a runner: another launch of the same id, of this manager or of another one
/// with the same state folder, goes first.
async fn turn(os: &Os, name: &RunnerName) -> Result<(RunnerKeys, Turn)> {
    loop {
        let (folder, of) = (os.keys.clone(), name.clone());
        if let Some(taken) = blocking(move || folder.try_take(&of)).await? {
            return Ok(taken);
        }
        tokio::time::sleep(TURN_PAUSE).await;
    }
}

async fn make(os: &Os, spec: &LaunchSpec) -> Result<CloudInstance> {
    let name = &spec.name;
    let (keys, _turn) = turn(os, name).await?;
    if let Some(server) = servers::newest(&os.api, name).await? {
        return settled(os, name, server).await;
    }
    servers::check_room(&os.api, os.flavor.cores, os.flavor.ram_mib).await?;
    let user_data = user_data(spec, &os.config.boot, &keys)?;
    let public = keys.client_public()?;
    // First: where the key pair is another manager's, everything of this name is.
    keypairs::ensure(&os.api, name, &public).await?;
    let (port, volume) = futures::try_join!(port(os, name), volume(os, name))?;
    let body = server(os, name, &port, volume.as_deref(), &user_data);
    let made = match servers::create(&os.api, body).await {
        Ok(id) => servers::get(&os.api, &id).await?,
        Err(error) if may_be_there(&error) => Some(look_for(os, name).await.ok_or(error)?),
        Err(error) => return Err(error),
    };
    let gone = || Error::new(ErrorKind::NotFound, "the server vanished while it was made");
    settled(os, name, made.ok_or_else(gone)?).await
}

async fn port(os: &Os, name: &RunnerName) -> Result<String> {
    let port = network::ensure_port(&os.api, name, &os.network, &os.group).await?;
    if let Some(outside) = &os.floating_network {
        network::ensure_floating(&os.api, name, outside, &port).await?;
    }
    Ok(port)
}

async fn volume(os: &Os, name: &RunnerName) -> Result<Option<String>> {
    match &os.config.boot_volume {
        Some(wanted) => volumes::ensure(&os.api, name, &os.image, wanted)
            .await
            .map(Some),
        None => Ok(None),
    }
}

/// Whether a server may be there although its creation failed: no answer came; or another
/// attempt has the port, and with it the name.
fn may_be_there(error: &Error) -> bool {
    let no_answer = matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Unreachable);
    (no_answer && error.effect() == Effect::Unknown) || error.kind() == ErrorKind::AlreadyExists
}

/// The server of this name, after a creation that gave no clear answer.
async fn look_for(os: &Os, name: &RunnerName) -> Option<Server> {
    for _ in 0..LOOKS {
        if let Ok(Some(server)) = servers::newest(&os.api, name).await {
            return Some(server);
        }
        tokio::time::sleep(PAUSES.0).await;
    }
    None
}

/// Waits until a server is active. The caller bounds the wait; a look that fails in passing
/// does not end it.
async fn settled(os: &Os, name: &RunnerName, mut server: Server) -> Result<CloudInstance> {
    let mut pause = PAUSES.0;
    loop {
        match server.state() {
            CloudRunnerState::Created => {}
            CloudRunnerState::Error => {
                return Err(server.fault().with_context("server", &server.id));
            }
            _ => {
                let strange =
                    || Error::new(ErrorKind::AlreadyExists, "the server is not the manager's");
                return server.owned(name.prefix()).ok_or_else(strange);
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSES.1);
        match servers::get(&os.api, &server.id).await {
            Ok(Some(found)) => server = found,
            Ok(None) => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "the server vanished while it was made",
                ));
            }
            Err(error) if error.retry() == Retry::Never => return Err(error),
            Err(error) => tracing::debug!(runner = %name, %error, "cannot look at the new server"),
        }
    }
}

/// User-data with the instance's host key, in base64.
fn user_data(spec: &LaunchSpec, boot: &BootConfig, keys: &RunnerKeys) -> Result<String> {
    let host_key = ExtraPart {
        kind: PartKind::CloudConfig,
        content: keys.cloud_config()?.expose().to_owned(),
    };
    let mut boot = boot.clone();
    boot.extra_parts.push(host_key);
    let data = Bootstrap::new(spec, &boot)?.user_data(Some(MAX_USER_DATA))?;
    Ok(data.expose_base64())
}

/// The request for a server.
fn server(os: &Os, name: &RunnerName, port: &str, volume: Option<&str>, user_data: &str) -> Value {
    let config = &os.config;
    let mut metadata: Map<String, Value> = config
        .metadata
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    metadata.insert(MARK.into(), name.prefix().as_str().into());
    let tags: Vec<&str> = config
        .tags
        .iter()
        .map(String::as_str)
        .chain([MARK])
        .collect();
    let mut server = json!({
        "name": name.to_string(),
        "flavorRef": os.flavor.id,
        "networks": [{"port": port}],
        "key_name": name.to_string(),
        "user_data": user_data,
        "config_drive": config.config_drive,
        "metadata": metadata,
        "tags": tags,
    });
    match volume {
        Some(id) => {
            server["block_device_mapping_v2"] = json!([{
                "boot_index": 0, "uuid": id, "source_type": "volume",
                "destination_type": "volume", "delete_on_termination": true,
            }]);
        }
        None => server["imageRef"] = os.image.clone().into(),
    }
    if let Some(zone) = &config.availability_zone {
        server["availability_zone"] = zone.clone().into();
    }
    let mut hints: Map<String, Value> = config
        .scheduler_hints
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect();
    if let Some(group) = &config.server_group {
        hints.insert("group".into(), group.clone().into());
    }
    if hints.is_empty() {
        json!({ "server": server })
    } else {
        json!({ "server": server, "os:scheduler_hints": hints })
    }
}

/// Removes what a failed launch made, unless there is a server, with which the caller removes
/// the rest.
async fn undo(os: &Os, name: &RunnerName, error: Error) -> Error {
    if error.context("key pair").is_some() {
        return error;
    }
    let undo = async {
        match servers::newest(&os.api, name).await? {
            Some(_) => Ok(()),
            None => remove::parts(os, name).await,
        }
    };
    let outcome = tokio::time::timeout(os.call_timeout, undo).await;
    match outcome {
        Ok(Ok(())) => error,
        Ok(Err(left)) => error
            .with_effect(Effect::Partial)
            .with_context("not removed", left),
        Err(_) => error
            .with_effect(Effect::Partial)
            .with_context("not removed", "no answer in time"),
    }
}
