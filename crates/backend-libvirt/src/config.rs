//! The section `[pool.libvirt]`.

use std::path::PathBuf;
use std::time::Duration;

use runner_manager_core::{BootConfig, Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;

/// The section `[pool.libvirt]` of the configuration.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LibvirtConfig {
    /// The hosts. A launch goes to the one with the most memory and CPU to spare; one that
    /// cannot be reached is left out. Default: `qemu:///system`.
    #[serde(default = "default_hosts")]
    pub hosts: Vec<HostConfig>,
    /// The storage pool of disks, seeds and console logs, of a kind that holds files (`dir`,
    /// `fs`, `netfs`). It must be active, on each host. Default: `default`.
    #[serde(default = "default_storage_pool")]
    pub storage_pool: String,
    /// The volume that disks are laid over. It is never written.
    pub image: String,
    /// The storage pool of `image`. Default: `storage_pool`.
    pub image_pool: Option<String>,
    /// The size of a disk, in GiB. Default: the size of the image.
    pub disk_gib: Option<u32>,
    /// Virtual CPUs. Default: 2.
    #[serde(default = "default_vcpus")]
    pub vcpus: u32,
    /// Memory, in MiB. Default: 4096.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
    /// What runs the guest's code. Default: `auto`.
    #[serde(default)]
    pub accelerator: Accelerator,
    /// What boots the guest. Default: `bios`.
    #[serde(default)]
    pub firmware: Firmware,
    /// Boots this kernel instead of what the disk holds.
    pub kernel: Option<Kernel>,
    /// What the guest's network card is plugged into. Default: the libvirt network `default`.
    #[serde(default)]
    pub network: Network,
    /// How instances become runners.
    #[serde(default)]
    pub boot: BootConfig,
    /// How many virtual CPUs one CPU of a host stands for. Default: 4.
    #[serde(default = "default_cpu_overcommit")]
    pub cpu_overcommit: f64,
    /// How long one call to a host may take, in seconds. Default: 60.
    #[serde(default = "default_call_seconds")]
    pub call_seconds: u32,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LibvirtHost")]
pub struct HostConfig {
    /// Its libvirt URI: `qemu:///system`, `qemu+ssh://user@host/system`,
    /// `qemu+tls://host/system`, …
    pub uri: String,
    /// Memory that guests may not have, in MiB. Default: 512.
    #[serde(default = "default_reserved_memory_mib")]
    pub reserved_memory_mib: u32,
}

/// What runs the guest's code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LibvirtAccelerator")]
pub enum Accelerator {
    /// KVM where the host has it; else QEMU's own translator, with a warning.
    #[default]
    Auto,
    /// KVM; a host without it is refused.
    Kvm,
    /// QEMU's translator: needs nothing, and is slower by a factor of ten to thirty.
    Tcg,
}

/// What boots the guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LibvirtFirmware")]
pub enum Firmware {
    /// A BIOS (x64 only).
    #[default]
    Bios,
    /// UEFI, as the host's firmware descriptions have it.
    Uefi,
}

/// A kernel on the host, booted directly.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LibvirtKernel")]
pub struct Kernel {
    /// The kernel's file on the host.
    pub path: PathBuf,
    /// The initial RAM disk's file on the host.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[serde(default)]
    pub command_line: String,
}

/// What the guest's network card is plugged into.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "LibvirtNetwork")]
pub enum Network {
    /// A network of libvirt, by name. It must be active.
    Network(String),
    /// A bridge of the host, by name.
    Bridge(String),
    /// QEMU's user-mode network: outgoing connections only, no setup.
    User,
}

impl Default for Network {
    fn default() -> Self {
        Self::Network("default".into())
    }
}

fn default_hosts() -> Vec<HostConfig> {
    vec![HostConfig {
        uri: "qemu:///system".into(),
        reserved_memory_mib: default_reserved_memory_mib(),
    }]
}

fn default_storage_pool() -> String {
    "default".into()
}

fn default_vcpus() -> u32 {
    2
}

fn default_memory_mib() -> u32 {
    4096
}

fn default_cpu_overcommit() -> f64 {
    4.0
}

fn default_call_seconds() -> u32 {
    60
}

fn default_reserved_memory_mib() -> u32 {
    512
}

fn wrong<T>(key: &'static str, message: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::InvalidConfig, message).with_context("key", key))
}

impl LibvirtConfig {
    /// Checks what can be checked without a host.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] with the key.
    pub(crate) fn check(&self) -> Result<()> {
        if self.hosts.is_empty() {
            return wrong("hosts", "there is no host; name one, or leave the key out");
        }
        let mut uris: Vec<&str> = self.hosts.iter().map(|host| host.uri.as_str()).collect();
        uris.sort_unstable();
        if let Some(twice) = uris.windows(2).find(|pair| pair[0] == pair[1]) {
            return wrong("hosts", format!("the host {} stands here twice", twice[0]));
        }
        for (key, text) in self.texts() {
            if text.is_empty() || text.chars().any(char::is_control) {
                return wrong(key, "it is empty, or holds control characters");
            }
        }
        if let Some(kernel) = &self.kernel {
            let paths = [Some(&kernel.path), kernel.initrd.as_ref()];
            if paths.into_iter().flatten().any(|path| !path.is_absolute()) {
                return wrong("kernel", "give absolute paths of files on the hosts");
            }
            if kernel.command_line.chars().any(char::is_control) {
                return wrong("kernel.command_line", "it holds control characters");
            }
        }
        if !(1..=1024).contains(&self.vcpus) {
            return wrong("vcpus", "give 1 to 1024 virtual CPUs");
        }
        if self.memory_mib < 64 {
            return wrong("memory_mib", "give at least 64 MiB");
        }
        if self.disk_gib == Some(0) {
            return wrong("disk_gib", "give at least 1 GiB, or leave the key out");
        }
        if !self.cpu_overcommit.is_finite() || self.cpu_overcommit < 0.1 {
            return wrong("cpu_overcommit", "give a number of at least 0.1");
        }
        if !(1..=3600).contains(&self.call_seconds) {
            return wrong("call_seconds", "give 1 to 3600 seconds");
        }
        Ok(())
    }

    /// The texts that name something on a host.
    fn texts(&self) -> Vec<(&'static str, &str)> {
        let mut texts = vec![
            ("storage_pool", self.storage_pool.as_str()),
            ("image", self.image.as_str()),
        ];
        texts.extend(self.image_pool.as_deref().map(|text| ("image_pool", text)));
        texts.extend(self.hosts.iter().map(|host| ("hosts", host.uri.as_str())));
        match &self.network {
            Network::Network(name) | Network::Bridge(name) => texts.push(("network", name)),
            Network::User => {}
        }
        texts
    }

    /// The storage pool of the image.
    pub(crate) fn image_pool(&self) -> &str {
        self.image_pool.as_deref().unwrap_or(&self.storage_pool)
    }

    /// How long one call may take.
    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_secs(self.call_seconds.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(section: serde_json::Value) -> Result<LibvirtConfig> {
        let config: LibvirtConfig = runner_manager_core::parse_section(section)?;
        config.check().map(|()| config)
    }

    #[test]
    fn an_image_is_enough() {
        let config = read(json!({"image": "debian-12.qcow2"})).expect("the defaults do");
        assert_eq!(config.hosts[0].uri, "qemu:///system");
        assert_eq!(config.image_pool(), "default");
        assert_eq!(config.network, Network::Network("default".into()));
    }

    #[test]
    fn networks_are_told_apart() {
        for (given, network) in [
            (json!("user"), Network::User),
            (json!({"bridge": "br0"}), Network::Bridge("br0".into())),
            (json!({"network": "ci"}), Network::Network("ci".into())),
        ] {
            let config = read(json!({"image": "a", "network": given})).expect("a network");
            assert_eq!(config.network, network);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_key() {
        let twice = json!([{"uri": "qemu:///system"}, {"uri": "qemu:///system"}]);
        for (key, section) in [
            ("image", json!({"image": ""})),
            ("image", json!({"image": "a\nb"})),
            ("hosts", json!({"image": "a", "hosts": []})),
            ("hosts", json!({"image": "a", "hosts": twice})),
            ("vcpus", json!({"image": "a", "vcpus": 0})),
            ("memory_mib", json!({"image": "a", "memory_mib": 1})),
            ("disk_gib", json!({"image": "a", "disk_gib": 0})),
            (
                "cpu_overcommit",
                json!({"image": "a", "cpu_overcommit": 0.0}),
            ),
            (
                "kernel",
                json!({"image": "a", "kernel": {"path": "vmlinuz"}}),
            ),
            ("call_seconds", json!({"image": "a", "call_seconds": 0})),
        ] {
            let error = read(section).expect_err("it is refused");
            assert_eq!(error.context("key"), Some(key), "{error}");
        }
    }
}
