//! The section `[pool.lxd]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runner_manager_core::{BootConfig, Compression, Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use url::Url;

/// The section `[pool.lxd]` of the configuration.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LxdConfig {
    /// The server's unix socket. Default, without `tls`: that of Incus, of LXD's snap, or of
    /// LXD's package, whichever exists.
    pub socket: Option<PathBuf>,
    /// A server over HTTPS, instead of `socket`.
    pub tls: Option<Tls>,
    /// The project of the instances. Default: `default`.
    #[serde(default = "default_name")]
    pub project: String,
    /// What hosts a runner. Default: `container`.
    #[serde(default)]
    pub instance_type: InstanceType,
    /// The profiles of the instances, in order. Default: `default`.
    #[serde(default = "default_profiles")]
    pub profiles: Vec<String>,
    /// What the instances are made from.
    pub image: Image,
    /// The storage pool of the root disk. Default: what the profiles say.
    pub storage_pool: Option<String>,
    /// The network of the first interface, `eth0`. Default: what the profiles say.
    pub network: Option<String>,
    /// Limits of each runner.
    #[serde(default)]
    pub limits: Limits,
    /// The member of a cluster that hosts the instances, or `@GROUP`. Default: the cluster
    /// chooses.
    pub target: Option<String>,
    /// Whether the server itself deletes an instance once it stops. Default: false, so that
    /// the metrics of one that stopped by itself can still be read.
    #[serde(default)]
    pub ephemeral: bool,
    /// What an instance may do.
    #[serde(default)]
    pub security: Security,
    /// Volumes that each instance gets for itself and that go with it.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// More configuration keys of the instances, in the server's own words.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// More devices of the instances, by name, in the server's own words.
    #[serde(default)]
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
    /// What happens on an instance between its boot and its job.
    #[serde(default)]
    pub boot: BootConfig,
}

/// A server over HTTPS.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LxdTls")]
pub struct Tls {
    /// Such as `https://lxd.example.com:8443`.
    #[schemars(with = "String")]
    pub url: Url,
    /// A PEM file with the client's certificate, which the server trusts.
    pub client_certificate: PathBuf,
    /// A PEM file with its key, readable by nobody else.
    pub client_key: PathBuf,
    /// A PEM file with the server's own certificate, or the authority that signed it. Default:
    /// the authorities that this machine trusts.
    pub server_certificate: Option<PathBuf>,
}

/// What hosts a runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "LxdInstanceType")]
pub enum InstanceType {
    /// A system container.
    #[default]
    Container,
    /// A virtual machine. The server must be able to run them.
    VirtualMachine,
}

impl InstanceType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }
}

/// What the instances are made from: an alias or a fingerprint, here or on another server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LxdImage")]
pub struct Image {
    /// The alias, looked up at every launch.
    pub alias: Option<String>,
    /// The fingerprint, whole or its first digits (at least 12).
    pub fingerprint: Option<String>,
    /// The server that holds the image. Default: the one that runs the instances.
    #[schemars(with = "Option<String>")]
    pub server: Option<Url>,
    /// What that server speaks. Default: `simplestreams`.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What an image server speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "LxdProtocol")]
pub enum Protocol {
    /// An index of static files.
    #[default]
    Simplestreams,
    /// The API of LXD.
    Lxd,
    /// The API of Incus.
    Incus,
}

impl Protocol {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Simplestreams => "simplestreams",
            Self::Lxd => "lxd",
            Self::Incus => "incus",
        }
    }
}

/// Limits of each runner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LxdLimits")]
pub struct Limits {
    /// CPUs.
    pub cpus: Option<u32>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// The size of the root disk, in bytes, where the storage pool knows quotas.
    pub disk_bytes: Option<u64>,
    /// Processes and threads of a container.
    pub processes: Option<u32>,
}

/// What an instance may do. The defaults are the strictest that hosts a runner.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LxdSecurity")]
pub struct Security {
    /// Whether a container may run containers itself, as Docker in it needs. Default: false.
    #[serde(default)]
    pub nesting: bool,
    /// Whether root of a container is root of the host. Default: false.
    #[serde(default)]
    pub privileged: bool,
    /// Whether a virtual machine boots only signed systems. Default: true.
    #[serde(default = "yes")]
    pub secureboot: bool,
    /// Whether the instance sees the server's socket for guests, from which newer images get
    /// their user-data. Default: true.
    #[serde(default = "yes")]
    pub guest_api: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            nesting: false,
            privileged: false,
            secureboot: true,
            guest_api: true,
        }
    }
}

/// A volume of each instance.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LxdVolume")]
pub struct Volume {
    /// Its storage pool.
    pub pool: String,
    /// Where the instance mounts it, such as `/var/lib/docker`.
    pub path: String,
    /// Its size in bytes. Default: what the pool says.
    pub size_bytes: Option<u64>,
}

fn yes() -> bool {
    true
}

fn default_name() -> String {
    "default".into()
}

fn default_profiles() -> Vec<String> {
    vec![default_name()]
}

pub(crate) fn invalid(key: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message).with_context("key", key)
}

impl LxdConfig {
    /// Checks what serde cannot and what needs no server.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], with the key.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.socket.is_some() && self.tls.is_some() {
            return Err(invalid(
                "tls",
                "is set together with `socket`; keep one of the two",
            ));
        }
        self.validate_image()?;
        self.validate_type()?;
        self.validate_volumes()?;
        for key in self.config.keys() {
            let ours = ["user.user-data", "security.nesting", "security.privileged"];
            if ours.contains(&key.as_str())
                || key.starts_with("user.runner-manager.")
                || key.starts_with("volatile.")
            {
                let message = "is set by the backend; leave it out, or use the key of the section";
                return Err(invalid(&format!("config.{key}"), message));
            }
        }
        if self.boot.compression == Compression::Always {
            let message = "cannot be `always`: the server keeps user-data as text";
            return Err(invalid("boot.compression", message));
        }
        Ok(())
    }

    fn validate_image(&self) -> Result<()> {
        match (&self.image.alias, &self.image.fingerprint) {
            (Some(alias), None) if !alias.is_empty() => {}
            (None, Some(print)) => {
                let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if !(12..=64).contains(&print.len()) || !print.bytes().all(hex) {
                    let message = "is no fingerprint; give 12 to 64 lowercase hexadecimal digits";
                    return Err(invalid("image.fingerprint", message));
                }
            }
            _ => {
                let message = "needs exactly one of `alias` and `fingerprint`";
                return Err(invalid("image", message));
            }
        }
        if self
            .image
            .server
            .as_ref()
            .is_some_and(|s| s.scheme() != "https")
        {
            return Err(invalid("image.server", "must be an `https` URL"));
        }
        Ok(())
    }

    fn validate_type(&self) -> Result<()> {
        let machine = self.instance_type == InstanceType::VirtualMachine;
        if machine && (self.security.nesting || self.security.privileged) {
            return Err(invalid(
                "security",
                "`nesting` and `privileged` are for containers",
            ));
        }
        if machine && self.limits.processes.is_some() {
            return Err(invalid("limits.processes", "is for containers"));
        }
        let zero = [
            ("limits.cpus", self.limits.cpus == Some(0)),
            (
                "limits.processes",
                self.limits.processes.is_some_and(|n| n < 64),
            ),
            (
                "limits.memory_bytes",
                self.limits.memory_bytes.is_some_and(|n| n < 64 << 20),
            ),
            (
                "limits.disk_bytes",
                self.limits.disk_bytes.is_some_and(|n| n < 64 << 20),
            ),
        ];
        match zero.into_iter().find(|(_, small)| *small) {
            Some((key, _)) => Err(invalid(key, "is too little for a runner to boot")),
            None => Ok(()),
        }
    }

    fn validate_volumes(&self) -> Result<()> {
        for (index, volume) in self.volumes.iter().enumerate() {
            let key = |name: &str| format!("volumes[{index}].{name}");
            let twice = self.volumes[..index].iter().any(|v| v.path == volume.path);
            if !volume.path.starts_with('/') || volume.path.len() < 2 || twice {
                let message = "must be an absolute path, each once, and not `/`";
                return Err(invalid(&key("path"), message));
            }
            if volume.pool.is_empty() {
                return Err(invalid(&key("pool"), "is empty"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_manager_core::parse_section;
    use serde_json::{Value, json};

    fn parse(section: Value) -> Result<LxdConfig> {
        let config: LxdConfig = parse_section(section)?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn a_small_section_is_enough_and_strict() {
        let config = parse(json!({"image": {"alias": "runner"}})).expect("valid");
        assert_eq!(config.project, "default");
        assert_eq!(config.profiles, ["default"]);
        assert!(!config.security.nesting && !config.security.privileged);
        assert!(!config.ephemeral);
    }

    #[test]
    fn wrong_sections_name_the_key() {
        let image = json!({"alias": "runner"});
        let print = "ab".repeat(32);
        for (section, key) in [
            (json!({"image": {}}), "image"),
            (
                json!({"image": {"alias": "a", "fingerprint": print}}),
                "image",
            ),
            (json!({"image": {"fingerprint": "XY"}}), "image.fingerprint"),
            (
                json!({"image": {"alias": "a", "server": "http://images.example"}}),
                "image.server",
            ),
            (
                json!({"image": image, "limits": {"cpus": 0}}),
                "limits.cpus",
            ),
            (
                json!({"image": image, "instance_type": "virtual-machine",
                       "security": {"nesting": true}}),
                "security",
            ),
            (
                json!({"image": image, "config": {"user.user-data": "x"}}),
                "config.user.user-data",
            ),
            (
                json!({"image": image, "config": {"user.runner-manager.prefix": "x"}}),
                "config.user.runner-manager.prefix",
            ),
            (
                json!({"image": image, "volumes": [{"pool": "p", "path": "docker"}]}),
                "volumes[0].path",
            ),
            (
                json!({"image": image, "boot": {"compression": "always"}}),
                "boot.compression",
            ),
            (
                json!({"image": image, "security": {"nestling": true}}),
                "security.nestling",
            ),
            (
                json!({"image": image, "socket": "/s", "tls": {"url": "https://a",
                       "client_certificate": "/c", "client_key": "/k"}}),
                "tls",
            ),
        ] {
            let error = parse(section).expect_err(key);
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert_eq!(error.context("key"), Some(key), "{error}");
        }
    }
}
