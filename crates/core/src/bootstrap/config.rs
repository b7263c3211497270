//! What a pool says about the boot of its instances.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::InvalidValue;

/// The machine that an image is made for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    /// 64-bit x86.
    #[default]
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Machine {
    /// What `uname -m` says there.
    #[must_use]
    pub fn uname(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }
}

/// How the instances of a pool become runners: all that is the same for each of them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// The machine; an instance of another kind refuses to go on.
    #[serde(default)]
    pub machine: Machine,
    /// The user that runs the runner. Made where the image has none. Default: `ubuntu`.
    #[serde(default = "user")]
    pub user: String,
    /// The user's home, which holds the metrics-exchange folder. Default: `/home/ubuntu`.
    #[serde(default = "home")]
    pub home: String,
    /// Where the runner program is, and where it comes from when it is not there.
    #[serde(default)]
    pub runner: RunnerFolder,
    /// More variables for the runner; they win over what is set for every runner. No secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What transparent proxying redirects.
    #[serde(default)]
    pub aproxy: Aproxy,
    /// A script that runs before each job, after the metrics and the repository policy; its
    /// failure fails the job. Starts with `#!`.
    #[serde(default)]
    pub pre_job_script: Option<String>,
    /// More certificate authorities to trust, each in PEM.
    #[serde(default)]
    pub ca_certificates: Vec<String>,
    /// More parts of user-data, which take effect before the manager's own.
    #[serde(default)]
    pub extra_parts: Vec<ExtraPart>,
    /// Whether the package lists are refreshed at boot. Default: true.
    #[serde(default = "yes")]
    pub update_packages: bool,
    /// Whether user-data is compressed. Default: when it is over the limit of the backend.
    #[serde(default)]
    pub compression: Compression,
}

impl Default for BootConfig {
    fn default() -> Self {
        Self {
            machine: Machine::default(),
            user: user(),
            home: home(),
            runner: RunnerFolder::default(),
            env: BTreeMap::new(),
            aproxy: Aproxy::default(),
            pre_job_script: None,
            ca_certificates: Vec::new(),
            extra_parts: Vec::new(),
            update_packages: yes(),
            compression: Compression::default(),
        }
    }
}

impl BootConfig {
    /// The metrics-exchange folder on the instance.
    #[must_use]
    pub fn exchange_folder(&self) -> String {
        format!("{}/metrics-exchange", self.home)
    }

    /// Checks everything that is the same for all runners of the pool, for a backend to call
    /// before it connects.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`](crate::ErrorKind::InvalidConfig), with what to change.
    pub fn check(&self) -> crate::Result<()> {
        super::check::config(self)
    }
}

fn user() -> String {
    "ubuntu".into()
}

fn home() -> String {
    "/home/ubuntu".into()
}

fn yes() -> bool {
    true
}

/// When user-data is compressed with gzip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// When it would be too large otherwise.
    #[default]
    WhenNeeded,
    /// Always.
    Always,
    /// Never: for images whose cloud-init or data source cannot unpack it.
    Never,
}

/// The folder of the runner program.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunnerFolder {
    /// Where it is, or is unpacked to. Default: `/opt/actions-runner`.
    #[serde(default = "runner_path")]
    pub path: String,
    /// The oldest version that will do, such as `2.330.0`. GitHub turns old runners away.
    pub minimum_version: Option<String>,
    /// Where to get it when the image holds none, or one that is too old.
    pub download: Option<RunnerDownload>,
}

impl Default for RunnerFolder {
    fn default() -> Self {
        Self {
            path: runner_path(),
            minimum_version: None,
            download: None,
        }
    }
}

fn runner_path() -> String {
    "/opt/actions-runner".into()
}

/// An archive of the runner program.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunnerDownload {
    /// The `.tar.gz`.
    #[schemars(with = "String")]
    pub url: Url,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

/// What transparent proxying redirects: IPv4, as aproxy reads the name of the server from the
/// connection itself.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aproxy {
    /// The TCP ports. Default: 80 and 443.
    #[serde(default = "ports")]
    pub ports: Vec<u16>,
    /// Networks that are reached directly, beside the private ones.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<Network>,
    /// The port on which aproxy listens. Default: 54969.
    #[serde(default = "listen")]
    pub listen: u16,
}

impl Default for Aproxy {
    fn default() -> Self {
        Self {
            ports: ports(),
            exclude: Vec::new(),
            listen: listen(),
        }
    }
}

fn ports() -> Vec<u16> {
    vec![80, 443]
}

fn listen() -> u16 {
    54_969
}

/// An IPv4 network, `ADDRESS` or `ADDRESS/LENGTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: Ipv4Addr,
    length: u8,
}

impl From<Ipv4Addr> for Network {
    fn from(address: Ipv4Addr) -> Self {
        Self {
            address,
            length: 32,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = || InvalidValue::new("network", text, "is not `ADDRESS/LENGTH` of IPv4");
        let (address, length) = text.split_once('/').unwrap_or((text, "32"));
        let address = address.parse().map_err(|_| wrong())?;
        match length.parse() {
            Ok(length) if length <= 32 => Ok(Self { address, length }),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// A part of user-data from the pool's owner.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtraPart {
    /// What it is.
    pub kind: PartKind,
    /// Its text.
    pub content: String,
}

/// What cloud-init does with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// YAML with cloud-init's own keys. Its `runcmd` and `write_files` come before the
    /// manager's.
    CloudConfig,
    /// A script, run as root before the runner starts.
    Script,
    /// A script, run as root early in the boot.
    Boothook,
}

impl PartKind {
    pub(super) fn mime(self) -> &'static str {
        match self {
            Self::CloudConfig => "text/cloud-config",
            Self::Script => "text/x-shellscript",
            Self::Boothook => "text/cloud-boothook",
        }
    }

    pub(super) fn first_line(self) -> &'static str {
        match self {
            Self::CloudConfig => "#cloud-config",
            Self::Script => "#!",
            Self::Boothook => "#",
        }
    }
}
