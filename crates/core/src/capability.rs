//! What a backend can do.

use serde::Serialize;

/// How a backend supports one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    /// The cloud does it.
    Native,
    /// The backend does it on top of the cloud, with the same result.
    Emulated,
    /// It cannot be had; the text says why. Asked for it, the backend answers
    /// `ErrorKind::Unsupported` and changes nothing.
    Unsupported(&'static str),
}

/// What a backend can do, field by field.
///
/// There is no `Default` on purpose: a new field does not compile until every backend has
/// answered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// Registration with a just-in-time config.
    pub jit_config: Support,
    /// Registration with a token and `config.sh`.
    pub registration_token: Support,
    /// Claiming the credential from the manager with a nonce, so that what the instance boots
    /// with holds no secret ([`crate::RunnerCredential::Claim`]).
    pub claim: Support,
    /// Looking into an instance for health and metrics.
    pub guest: Support,
    /// Setup by cloud-init, whose status the health rules use. Without it, an instance is judged
    /// by its state and its runner alone.
    pub cloud_init: Support,
    /// Stopping an idle runner in one step with the check that it is idle.
    pub idle_stop: Support,
    /// Running an operator's command on an instance ([`crate::Guest::run`]).
    pub shell: Support,
    /// Text of the instance's console, for failed boots.
    pub console: Support,
    /// Limits of CPU, memory and tasks per runner.
    pub resource_limits: Support,
    /// The services of `SupportServiceConfig`.
    pub support_services: Support,
    /// Runners survive a restart of the manager.
    pub outlives_manager: Support,
    /// The most instances that one manager may hold; `None` when only the cloud limits it.
    pub max_instances: Option<u32>,
    /// The most bytes of user-data; `None` when the backend uses none.
    pub max_user_data_bytes: Option<u32>,
}
