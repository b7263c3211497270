//! Volumes.

use schemars::JsonSchema;
use serde::Deserialize;

/// A volume. It is encrypted and deleted with its instance unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its size in GiB. Default: that of the image.
    pub size_gib: Option<i32>,
    /// Its kind. Default: `gp3`.
    #[serde(default)]
    pub kind: VolumeKind,
    /// Operations per second, where the kind takes it.
    pub iops: Option<i32>,
    /// Throughput in MiB/s, of `gp3` alone.
    pub throughput: Option<i32>,
    /// Whether it is encrypted. Default: true.
    #[serde(default = "yes")]
    pub encrypted: bool,
    /// The key it is encrypted with. Default: the account's own for volumes.
    pub kms_key_id: Option<String>,
    /// Whether it goes with its instance. Default: true. One that stays is removed by cleanup.
    #[serde(default = "yes")]
    pub delete_on_termination: bool,
}

impl Default for Volume {
    fn default() -> Self {
        Self {
            size_gib: None,
            kind: VolumeKind::default(),
            iops: None,
            throughput: None,
            encrypted: true,
            kms_key_id: None,
            delete_on_termination: true,
        }
    }
}

fn yes() -> bool {
    true
}

/// A volume beside the root volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataVolume {
    /// The name of its device, such as `/dev/sdf`.
    pub device: String,
    /// The volume; it needs a size.
    pub volume: Volume,
}

/// A kind of volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VolumeKind {
    /// General purpose SSD, with its own operations and throughput.
    #[default]
    Gp3,
    /// General purpose SSD of the generation before.
    Gp2,
    /// Provisioned SSD.
    Io1,
    /// Provisioned SSD, durable.
    Io2,
    /// Disk for throughput.
    St1,
    /// Cold disk.
    Sc1,
}
