//! From a launch to user-data.

use super::reveal::Reveal;
use super::{BootConfig, PartKind, UserData, check, user_data};
use crate::{LaunchSpec, Result, Secret};

/// What one instance boots with.
#[derive(Debug, Clone)]
pub struct Bootstrap<'a> {
    pub(super) spec: &'a LaunchSpec,
    pub(super) config: &'a BootConfig,
    pub(super) parts: Vec<(PartKind, Secret)>,
}

impl<'a> Bootstrap<'a> {
    /// Checks everything that can be checked before there is an instance.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) for what the pool's owner must
    /// change, [`InvalidRequest`](crate::ErrorKind::InvalidRequest) for a credential that
    /// cannot be one.
    pub fn new(spec: &'a LaunchSpec, config: &'a BootConfig) -> Result<Self> {
        config.check()?;
        check::spec(spec, config)?;
        let parts = Vec::new();
        Ok(Self {
            spec,
            config,
            parts,
        })
    }

    /// Adds a part of the backend's own, such as the host keys of this one instance. It takes
    /// effect before those of the pool, and starts as [`ExtraPart`](super::ExtraPart) says.
    #[must_use]
    pub fn with_part(mut self, kind: PartKind, content: Secret) -> Self {
        self.parts.push((kind, content));
        self
    }

    /// The user-data, of at most `limit` bytes
    /// ([`crate::Capability::max_user_data_bytes`]).
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) when it is too large even in gzip.
    pub fn user_data(&self, limit: Option<u32>) -> Result<UserData> {
        let text = user_data::document(self, Reveal::Secrets)?;
        user_data::pack(text, self.config.compression, limit)
    }

    /// The same for people: secrets masked, never compressed.
    ///
    /// # Errors
    /// As [`user_data`](Self::user_data), less the size.
    pub fn masked(&self) -> Result<String> {
        user_data::document(self, Reveal::Masks)
    }
}
