//! What the server is asked to make.

use std::collections::BTreeMap;

use runner_manager_core::{Bootstrap, Error, ErrorKind, LaunchSpec, Result, RunnerName, Secret};
use serde_json::{Value, json};

use crate::cloud::LxdCloud;
use crate::config::{InstanceType, LxdConfig};
use crate::server::MAX_USER_DATA;
use crate::volumes;

/// The key that says whose an instance or volume is.
pub(crate) const PREFIX_KEY: &str = "user.runner-manager.prefix";
/// The key that says which runner's it is.
pub(crate) const RUNNER_KEY: &str = "user.runner-manager.runner";
/// The key of what cloud-init reads.
pub(crate) const USER_DATA_KEY: &str = "user.user-data";

/// The marks of what is this manager's.
pub(crate) fn marks(name: &RunnerName) -> [(&'static str, String); 2] {
    [
        (PREFIX_KEY, name.prefix().to_string()),
        (RUNNER_KEY, name.to_string()),
    ]
}

/// Whether the marks say that something is of this runner.
pub(crate) fn is_marked(config: &BTreeMap<String, String>, name: &RunnerName) -> bool {
    marks(name)
        .iter()
        .all(|(key, value)| config.get(*key) == Some(value))
}

/// What the instance boots with, as text.
pub(crate) fn user_data(config: &LxdConfig, spec: &LaunchSpec) -> Result<Secret> {
    let data = Bootstrap::new(spec, &config.boot)?.user_data(None)?;
    let bytes = data.expose();
    if bytes.len() > usize::try_from(MAX_USER_DATA).unwrap_or(usize::MAX) {
        let message = "user-data is too large; shorten the extra parts, the pre-job script and \
                       the certificates, or put them into the image";
        return Err(Error::new(ErrorKind::InvalidConfig, message)
            .with_context("bytes", bytes.len())
            .with_context("limit", MAX_USER_DATA));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Secret::new(text)),
        Err(error) => {
            let message = "user-data is no text, and the server keeps nothing else";
            Err(Error::new(ErrorKind::InvalidConfig, message).with_source(error))
        }
    }
}

/// What the server is asked to make.
pub(crate) fn body(cloud: &LxdCloud, name: &RunnerName, user_data: &Secret) -> Value {
    let config = &cloud.config;
    json!({
        "name": name.to_string(),
        "type": config.instance_type.as_str(),
        "ephemeral": config.ephemeral,
        "profiles": config.profiles,
        "config": keys(cloud, name, user_data),
        "devices": devices(cloud, name),
        "source": source(config),
        // Servers that do not know this field skip it.
        "start": cloud.server.has(START),
    })
}

/// The extension with which the server starts what it makes.
pub(crate) const START: &str = "instance_create_start";

fn source(config: &LxdConfig) -> Value {
    let mut source = json!({"type": "image"});
    if let Some(alias) = &config.image.alias {
        source["alias"] = json!(alias);
    }
    if let Some(fingerprint) = &config.image.fingerprint {
        source["fingerprint"] = json!(fingerprint);
    }
    if let Some(server) = &config.image.server {
        source["server"] = json!(server.as_str().trim_end_matches('/'));
        source["protocol"] = json!(config.image.protocol.as_str());
        source["mode"] = json!("pull");
    }
    source
}

fn keys(cloud: &LxdCloud, name: &RunnerName, user_data: &Secret) -> BTreeMap<String, String> {
    let config = &cloud.config;
    let mut keys = config.config.clone();
    let mut set = |key: &str, value: String| keys.insert(key.to_owned(), value);
    for (key, value) in marks(name) {
        set(key, value);
    }
    set(USER_DATA_KEY, user_data.expose().to_owned());
    let security = &config.security;
    match config.instance_type {
        InstanceType::Container => {
            set("security.nesting", security.nesting.to_string());
            set("security.privileged", security.privileged.to_string());
        }
        InstanceType::VirtualMachine => {
            set("security.secureboot", security.secureboot.to_string());
        }
    }
    set(
        cloud.server.kind.guest_api(),
        security.guest_api.to_string(),
    );
    if let Some(cpus) = config.limits.cpus {
        set("limits.cpu", cpus.to_string());
    }
    if let Some(bytes) = config.limits.memory_bytes {
        set("limits.memory", bytes.to_string());
    }
    if let Some(processes) = config.limits.processes {
        set("limits.processes", processes.to_string());
    }
    keys
}

type Devices = BTreeMap<String, BTreeMap<String, String>>;

fn devices(cloud: &LxdCloud, name: &RunnerName) -> Devices {
    let config = &cloud.config;
    let mut devices = config.devices.clone();
    let mut set = |device: &str, keys: &[(&str, &str)]| {
        let keys = keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        devices.insert(device.to_owned(), keys.collect());
    };
    if config.storage_pool.is_some() || config.limits.disk_bytes.is_some() {
        let size = config.limits.disk_bytes.map(|bytes| bytes.to_string());
        let mut root = vec![("type", "disk"), ("path", "/"), ("pool", &*cloud.root_pool)];
        root.extend(size.as_deref().map(|size| ("size", size)));
        set("root", &root);
    }
    if let Some(network) = &config.network {
        let parent = if cloud.managed_network {
            "network"
        } else {
            "parent"
        };
        let mut nic = vec![("type", "nic"), ("name", "eth0"), (parent, network)];
        if !cloud.managed_network {
            nic.push(("nictype", "bridged"));
        }
        set("eth0", &nic);
    }
    for (index, volume) in config.volumes.iter().enumerate() {
        let source = volumes::name(name, index);
        let disk = [
            ("type", "disk"),
            ("pool", &volume.pool),
            ("source", &source),
            ("path", &volume.path),
        ];
        set(&format!("runner-volume-{index}"), &disk);
    }
    devices
}
