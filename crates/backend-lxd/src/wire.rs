//! What the server sends, as far as it is used. Source: the REST API of LXD 5.0 and Incus 6.0,
//! `doc/rest-api.yaml` of each; unknown fields are skipped.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The frame of every answer but files.
#[derive(Debug, Deserialize)]
pub(crate) struct Envelope {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) metadata: Value,
    #[serde(default)]
    pub(crate) error: String,
    #[serde(default)]
    pub(crate) error_code: u16,
}

/// Incus shows an instance that it is about to delete with `null` for its configuration.
fn null_is_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// `GET /1.0`.
#[derive(Debug, Deserialize)]
pub(crate) struct Server {
    pub(crate) auth: String,
    #[serde(default)]
    pub(crate) api_extensions: Vec<String>,
    #[serde(default)]
    pub(crate) environment: Environment,
}

/// What runs the server; absent for who is not trusted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Environment {
    pub(crate) server: String,
    pub(crate) server_version: String,
    pub(crate) server_clustered: bool,
    /// The drivers that work, such as `lxc | qemu`.
    pub(crate) driver: String,
}

/// `GET /1.0/warnings`.
#[derive(Debug, Deserialize)]
pub(crate) struct Warning {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) last_message: String,
}

/// A background operation.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Operation {
    pub(crate) id: String,
    /// `task`, `websocket` or `token`.
    pub(crate) class: String,
    pub(crate) status_code: u16,
    #[serde(default)]
    pub(crate) err: String,
    #[serde(default)]
    pub(crate) metadata: Value,
    #[serde(default)]
    pub(crate) resources: Option<BTreeMap<String, Vec<String>>>,
}

/// An instance, with its state where it was asked for.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) created_at: Timestamp,
    /// Before 1971 when it was never started.
    #[serde(default)]
    pub(crate) last_used_at: Timestamp,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) config: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) state: Option<State>,
}

/// The state of an instance.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct State {
    #[serde(default)]
    pub(crate) network: Option<BTreeMap<String, Interface>>,
}

/// A network interface of an instance.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Interface {
    #[serde(default)]
    pub(crate) addresses: Vec<Address>,
}

/// An address of an interface.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Address {
    pub(crate) address: IpAddr,
    /// `local`, `link` or `global`.
    pub(crate) scope: String,
}

/// A profile, as far as it decides on a launch.
#[derive(Debug, Deserialize)]
pub(crate) struct Profile {
    #[serde(default)]
    pub(crate) devices: BTreeMap<String, BTreeMap<String, String>>,
}

/// A project.
#[derive(Debug, Deserialize)]
pub(crate) struct Project {
    #[serde(default)]
    pub(crate) config: BTreeMap<String, String>,
}

/// A network.
#[derive(Debug, Deserialize)]
pub(crate) struct Network {
    pub(crate) managed: bool,
}

/// An image, or what an alias says of it.
#[derive(Debug, Deserialize)]
pub(crate) struct ImageType {
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// A storage volume.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Volume {
    pub(crate) name: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(crate) config: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) used_by: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) location: String,
    /// Missing on older servers.
    #[serde(default)]
    pub(crate) created_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_goes_is_read() {
        let text = r#"{"name": "a", "status": "Stopped", "created_at": "2026-11-29T05:49:35Z",
            "last_used_at": "2026-11-29T05:49:35Z", "config": null, "state": null}"#;
        let instance: Instance = serde_json::from_str(text).expect("an instance");
        assert!(instance.config.is_empty());
    }
}
