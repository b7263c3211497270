//! Removing servers, what belongs to them, and what was left behind.

use std::collections::HashSet;
use std::time::Duration;

use runner_manager_core::{
    CloudInstance, Effect, Error, ErrorKind, Leftover, NamePrefix, Result, Retry, RunnerName,
};

use crate::cloud::{Os, blocking};
use crate::network::Part;
use crate::{keypairs, network, servers, volumes};

/// The kinds of things beside servers.
const PORT: &str = "port";
const FLOATING: &str = "floating address";
const VOLUME: &str = "volume";
const KEY_PAIR: &str = "key pair";
const KEY_FILE: &str = "key file";

/// The pauses between two looks at a server that is being deleted: from the first to the
/// longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// Deletes a server, waits until it is gone, and removes what belonged to it.
pub(crate) async fn terminate(os: &Os, instance: &CloudInstance) -> Result<()> {
    os.keep_console(instance).await;
    servers::delete(&os.api, &instance.native_id).await?;
    os.ssh.forget(&instance.native_id);
    let limit = os.call_timeout * 3 / 4;
    let waited = tokio::time::timeout(limit, gone(os, instance)).await;
    match waited {
        Ok(Ok(Alone::Yes)) => parts(os, &instance.name).await,
        // Port and key are those of the other server of this name.
        Ok(Ok(Alone::No)) => Ok(()),
        Ok(Err(error)) => Err(error.with_effect(Effect::Partial)),
        Err(_) => {
            let text = "the server is still being deleted";
            Err(Error::new(ErrorKind::TimedOut, text)
                .with_retry(Retry::After(limit))
                .with_effect(Effect::Partial)
                .with_context("server", &instance.native_id))
        }
    }
}

/// Whether no other server bears the name.
enum Alone {
    Yes,
    No,
}

async fn gone(os: &Os, instance: &CloudInstance) -> Result<Alone> {
    let mut pause = PAUSES.0;
    loop {
        let there = servers::of_name(&os.api, &instance.name).await?;
        if there.iter().all(|server| server.id != instance.native_id) {
            return Ok(if there.is_empty() {
                Alone::Yes
            } else {
                Alone::No
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSES.1);
    }
}

/// Removes everything of a runner but its server. All is tried; the first failure is told.
pub(crate) async fn parts(os: &Os, name: &RunnerName) -> Result<()> {
    let prefix = name.prefix();
    let ports = async {
        if os.floating_network.is_some() {
            for part in network::floating(&os.api, prefix, Some(name)).await? {
                network::delete_floating(&os.api, &part.id)
                    .await
                    .map_err(|e| e.with_context(FLOATING, &part.id))?;
            }
        }
        for part in network::ports(&os.api, prefix, Some(name)).await? {
            network::delete_port(&os.api, &part.id)
                .await
                .map_err(|e| e.with_context(PORT, &part.id))?;
        }
        Ok(())
    };
    let volumes = async {
        if os.config.boot_volume.is_some() {
            for part in volumes::list(&os.api, prefix, Some(name)).await? {
                volumes::delete(&os.api, &part.id)
                    .await
                    .map_err(|e| e.with_context(VOLUME, &part.id))?;
            }
        }
        Ok(())
    };
    let key_pair = async {
        keypairs::delete(&os.api, name)
            .await
            .map_err(|e| e.with_context(KEY_PAIR, name))
    };
    let outcomes: (Result<()>, Result<()>, Result<()>) = futures::join!(ports, volumes, key_pair);
    outcomes.0.and(outcomes.1).and(outcomes.2)?;
    // Last, as it proves nothing to the cloud but is the only way into the server.
    remove_key_file(os, name).await
}

async fn remove_key_file(os: &Os, name: &RunnerName) -> Result<()> {
    let (keys, name) = (os.keys.clone(), name.clone());
    blocking(move || keys.remove(&name)).await
}

/// What is a prefix's and has no server: one list of each kind.
pub(crate) async fn leftovers(os: &Os, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
    let floating = async {
        if os.floating_network.is_some() {
            return network::floating(&os.api, prefix, None).await;
        }
        Ok(Vec::new())
    };
    let volumes = async {
        if os.config.boot_volume.is_some() {
            return volumes::list(&os.api, prefix, None).await;
        }
        Ok(Vec::new())
    };
    let files = async {
        let (keys, prefix) = (os.keys.clone(), prefix.clone());
        blocking(move || keys.names(&prefix)).await
    };
    let (floating, volumes, ports, pairs, files) = futures::try_join!(
        floating,
        volumes,
        network::ports(&os.api, prefix, None),
        keypairs::list(&os.api, prefix),
        files,
    )?;
    // Servers last: what one of the lists above shows was made before its server.
    let servers = servers::list(&os.api, prefix).await?;
    let mut alive: HashSet<RunnerName> = servers.into_iter().map(|server| server.name).collect();
    // A list may lack what is there. The port knows its server: that one is asked for itself.
    for port in &ports {
        if let Some(server) = port.server.as_ref().filter(|_| !alive.contains(&port.name))
            && servers::get(&os.api, server).await?.is_some()
        {
            alive.insert(port.name.clone());
        }
    }
    let part = |kind: &'static str| {
        move |part: Part| Leftover {
            kind,
            id: part.id,
            name: part.name,
            created_at: part.created_at,
        }
    };
    let named = |kind: &'static str| {
        move |name: RunnerName| Leftover {
            kind,
            id: name.to_string(),
            name,
            created_at: None,
        }
    };
    let found = (floating.into_iter().map(part(FLOATING)))
        .chain(ports.into_iter().map(part(PORT)))
        .chain(volumes.into_iter().map(part(VOLUME)))
        .chain(pairs.into_iter().map(named(KEY_PAIR)))
        .chain(files.into_iter().map(named(KEY_FILE)));
    Ok(found
        .filter(|leftover| !alive.contains(&leftover.name))
        .collect())
}

/// Removes a leftover.
pub(crate) async fn leftover(os: &Os, leftover: &Leftover) -> Result<()> {
    match leftover.kind {
        PORT => network::delete_port(&os.api, &leftover.id).await,
        FLOATING => network::delete_floating(&os.api, &leftover.id).await,
        VOLUME => volumes::delete(&os.api, &leftover.id).await,
        KEY_PAIR => keypairs::delete(&os.api, &leftover.name).await,
        _ => remove_key_file(os, &leftover.name).await,
    }
}
