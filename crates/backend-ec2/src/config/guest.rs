//! Ways into an instance.

use std::path::PathBuf;

use runner_manager_guest_ssh::SshConfig;
use schemars::JsonSchema;
use serde::Deserialize;

/// SSH: each runner has keys of its own, which its user-data places.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// The folder of the runners' keys on this machine, made with mode 0700 when absent.
    pub keys_dir: PathBuf,
    /// Which address to connect to.
    #[serde(default)]
    pub address: Address,
    /// How to connect.
    #[serde(default)]
    pub connection: SshConfig,
}

/// Which address of an instance to connect to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// The private one, from within the network.
    #[default]
    Private,
    /// The public one.
    Public,
}

/// Systems Manager's agent. The image has to hold it, and the instance profile has to let it in:
/// its rights are the jobs' too.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssm {
    /// How often a command's end is asked for, in milliseconds. Default: 1000.
    #[serde(default = "poll")]
    pub poll_milliseconds: u64,
}

fn poll() -> u64 {
    1_000
}
