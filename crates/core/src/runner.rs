//! A runner as the contract shows it.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use crate::{InstanceId, RunnerName};

/// Whether a runner can do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// It works, or is on its way to.
    Healthy,
    /// It does not and will not; cleanup removes it.
    Unhealthy,
    /// It could not be determined. The runner is kept, never deleted for it.
    Unknown,
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Unknown => "unknown",
        })
    }
}

/// The state of an instance. Each backend maps every native state to one of these, in one table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloudRunnerState {
    /// Being made, or made and not started yet.
    Created,
    /// Running.
    Active,
    /// Being deleted, or deleted.
    Deleted,
    /// Failed.
    Error,
    /// Stopped, shut off or suspended.
    Stopped,
    /// The backend itself does not know the state.
    Unknown,
    /// A native state that the backend's table does not hold: the native word.
    Unexpected(String),
}

impl fmt::Display for CloudRunnerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Active => f.write_str("active"),
            Self::Deleted => f.write_str("deleted"),
            Self::Error => f.write_str("error"),
            Self::Stopped => f.write_str("stopped"),
            Self::Unknown => f.write_str("unknown"),
            Self::Unexpected(native) => write!(f, "unexpected ({native})"),
        }
    }
}

/// One runner on its cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CloudRunnerInstance {
    /// The name, on the cloud and on GitHub.
    pub name: RunnerName,
    /// The manager's id.
    pub instance_id: InstanceId,
    /// Whether it works.
    pub health: HealthState,
    /// Why `health` says so, for logs and operators.
    pub health_reason: String,
    /// The state of the instance.
    pub state: CloudRunnerState,
    /// Whether a job runs on it; `None` when that could not be seen.
    pub busy: Option<bool>,
    /// When the instance was made.
    pub created_at: Timestamp,
    /// Its addresses, if it has any.
    pub addresses: Vec<IpAddr>,
    /// The cloud's own id of it.
    pub native_id: String,
}
