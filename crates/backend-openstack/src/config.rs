//! The section `[pool.openstack]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runner_manager_core::{BootConfig, Error, ErrorKind, Result};
use runner_manager_guest_ssh::SshConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::mark::MARK;

/// The section `[pool.openstack]` of the configuration.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenstackConfig {
    /// The entry of `clouds.yaml`. Default: `OS_CLOUD`, else the credentials in `OS_…`
    /// variables, else the only entry there is.
    pub cloud: Option<String>,
    /// The `clouds.yaml`, with a `secure.yaml` beside it. Default: where OpenStack's clients
    /// look for it.
    pub clouds_file: Option<PathBuf>,
    /// The folder for the private keys of the runners, and for the consoles of failed ones.
    pub state_dir: PathBuf,
    /// The image, by name or id.
    pub image: String,
    /// The flavor, by name or id.
    pub flavor: String,
    /// The network, by name or id.
    pub network: String,
    /// The availability zone. Default: Nova chooses.
    pub availability_zone: Option<String>,
    /// Boots from a volume of this size instead of the flavor's own disk.
    pub boot_volume: Option<BootVolume>,
    /// Hands user-data over on a config drive as well as through the metadata service. Default:
    /// true.
    #[serde(default = "yes")]
    pub config_drive: bool,
    /// More metadata of the servers.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// More tags of the servers.
    #[serde(default)]
    pub tags: Vec<String>,
    /// The security group of the servers.
    pub security_group: SecurityGroup,
    /// The id of a server group.
    pub server_group: Option<String>,
    /// More hints for Nova's scheduler.
    #[serde(default)]
    pub scheduler_hints: BTreeMap<String, String>,
    /// The external network, by name or id, from which each server gets a floating address.
    /// Default: none; the manager reaches the servers' own addresses.
    pub floating_network: Option<String>,
    /// The most requests a second to this account; throttling makes them fewer. Default: 20.
    #[serde(default = "rate")]
    pub requests_per_second: f64,
    /// How many of the consoles of failed runners are kept. Default: 50.
    #[serde(default = "consoles")]
    pub failed_consoles: usize,
    /// The way into the servers.
    #[serde(default)]
    pub ssh: SshConfig,
    /// How the servers become runners.
    #[serde(default)]
    pub boot: BootConfig,
}

/// A boot volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OpenstackBootVolume")]
pub struct BootVolume {
    /// Its size, in GiB.
    pub size_gib: u32,
    /// Its type. Default: Cinder chooses.
    pub volume_type: Option<String>,
}

/// A security group, made when it is absent. Rules that it lacks are added; none is removed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OpenstackSecurityGroup")]
pub struct SecurityGroup {
    /// Its name. Default: `github-runner-v1`.
    #[serde(default = "group")]
    pub name: String,
    /// The network from which SSH may come in: where the manager is, as `ADDRESS/LENGTH` of
    /// IPv4.
    pub ssh_cidr: String,
    /// The rules beside that for SSH. Default: incoming ICMP, and outgoing TCP to port 10022
    /// for debug sessions.
    #[serde(default = "rules")]
    pub rules: Vec<Rule>,
}

/// A rule of a security group, for IPv4.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OpenstackRule")]
pub struct Rule {
    /// The direction, seen from the server.
    pub direction: Direction,
    /// The protocol, such as `tcp`. Default: all.
    pub protocol: Option<String>,
    /// The first and the last port. Default: all.
    pub ports: Option<[u16; 2]>,
    /// The network at the other end. Default: all.
    pub cidr: Option<String>,
}

/// The direction of a connection, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "OpenstackDirection")]
pub enum Direction {
    /// To the server.
    Ingress,
    /// From the server.
    Egress,
}

fn yes() -> bool {
    true
}

fn rate() -> f64 {
    20.0
}

fn consoles() -> usize {
    50
}

fn group() -> String {
    "github-runner-v1".into()
}

fn rules() -> Vec<Rule> {
    let rule = |direction, protocol: &str, ports| Rule {
        direction,
        protocol: Some(protocol.into()),
        ports,
        cidr: None,
    };
    vec![
        rule(Direction::Ingress, "icmp", None),
        rule(Direction::Egress, "tcp", Some([10_022, 10_022])),
    ]
}

impl Rule {
    /// As Neutron takes it.
    pub(crate) fn body(&self) -> Value {
        json!({
            "direction": self.direction,
            "ethertype": "IPv4",
            "protocol": self.protocol,
            "port_range_min": self.ports.map(|ports| ports[0]),
            "port_range_max": self.ports.map(|ports| ports[1]),
            "remote_ip_prefix": self.cidr,
        })
    }
}

impl SecurityGroup {
    /// That for SSH, and the others.
    pub(crate) fn all_rules(&self) -> Vec<Rule> {
        let ssh = Rule {
            direction: Direction::Ingress,
            protocol: Some("tcp".into()),
            ports: Some([22, 22]),
            cidr: Some(self.ssh_cidr.clone()),
        };
        std::iter::once(ssh)
            .chain(self.rules.iter().cloned())
            .collect()
    }
}

fn invalid(key: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message).with_context("key", key)
}

fn is_network(text: &str) -> bool {
    text.parse::<runner_manager_core::Network>().is_ok()
}

impl OpenstackConfig {
    /// Checks what serde cannot.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], with the key.
    pub(crate) fn validate(&self) -> Result<()> {
        for (key, text) in [
            ("image", &self.image),
            ("flavor", &self.flavor),
            ("network", &self.network),
            ("security_group.name", &self.security_group.name),
        ] {
            if text.trim().is_empty() {
                return Err(invalid(key, "is empty; give a name or an id"));
            }
        }
        if !is_network(&self.security_group.ssh_cidr) {
            let message = "is not `ADDRESS/LENGTH` of IPv4; give the network of the manager";
            return Err(invalid("security_group.ssh_cidr", message));
        }
        for (index, rule) in self.security_group.rules.iter().enumerate() {
            if rule.cidr.as_deref().is_some_and(|cidr| !is_network(cidr)) {
                let key = format!("security_group.rules.{index}.cidr");
                return Err(invalid(&key, "is not `ADDRESS/LENGTH` of IPv4"));
            }
            if rule
                .ports
                .is_some_and(|[first, last]| first == 0 || first > last)
            {
                let key = format!("security_group.rules.{index}.ports");
                return Err(invalid(&key, "are not the first and the last port"));
            }
        }
        if self
            .boot_volume
            .as_ref()
            .is_some_and(|volume| volume.size_gib == 0)
        {
            return Err(invalid(
                "boot_volume.size_gib",
                "is 0; give the size in GiB",
            ));
        }
        if !(0.1..=1000.0).contains(&self.requests_per_second) {
            return Err(invalid(
                "requests_per_second",
                "is not between 0.1 and 1000",
            ));
        }
        self.validate_labels()?;
        self.boot.check()
    }

    fn validate_labels(&self) -> Result<()> {
        for (name, value) in &self.metadata {
            if name == MARK || name.is_empty() || name.len() > 255 || value.len() > 255 {
                let key = format!("metadata.{name}");
                return Err(invalid(
                    &key,
                    "is the manager's own, or longer than 255 bytes",
                ));
            }
        }
        // Nova takes 50 tags of 60 characters, without `,` and `/`.
        let bad =
            |tag: &String| tag.is_empty() || tag.chars().count() > 60 || tag.contains([',', '/']);
        if self.tags.len() > 49 || self.tags.iter().any(bad) {
            let message = "are at most 49, of at most 60 characters, without `,` and `/`";
            return Err(invalid("tags", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
