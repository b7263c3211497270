//! Guests over SSH.

use std::net::IpAddr;
use std::sync::Arc;

use runner_manager_core::{
    CloudInstance, Error, ErrorKind, ExtraPart, PartKind, Result, RunnerName,
};
use runner_manager_guest_ssh::{KeyFolder, SshExec, SshPool, Target};

use crate::config::{Address, Ssh};

/// SSH as a pool uses it.
#[derive(Debug)]
pub(crate) struct Way {
    pool: Arc<SshPool>,
    keys: KeyFolder,
    address: Address,
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Unexpected, "a worker thread failed").with_source(error))
        })
}

impl Way {
    pub(super) async fn open(section: &Ssh) -> Result<Self> {
        let section = section.clone();
        blocking(move || {
            let keys = KeyFolder::open(&section.keys_dir)
                .map_err(|error| error.with_context("key", "ssh.keys_dir"))?;
            Ok(Self {
                pool: Arc::new(SshPool::new(section.connection)?),
                keys,
                address: section.address,
            })
        })
        .await
    }

    /// The part of user-data that places the host's key, and lets the manager's key in.
    pub(super) async fn part(&self, name: &RunnerName) -> Result<ExtraPart> {
        let (keys, name) = (self.keys.clone(), name.clone());
        blocking(move || {
            let keys = keys.obtain(&name)?;
            let host = keys.cloud_config()?;
            // JSON strings are YAML strings.
            let client = serde_json::Value::from(keys.client_public()?);
            Ok(ExtraPart {
                kind: PartKind::CloudConfig,
                content: format!("{}ssh_authorized_keys:\n  - {client}\n", host.expose()),
            })
        })
        .await
    }

    pub(super) async fn exec(&self, instance: &CloudInstance) -> Result<SshExec> {
        let (keys, name) = (self.keys.clone(), instance.name.clone());
        let keys = blocking(move || keys.load(&name)).await?;
        let keys = keys.ok_or_else(|| {
            let message = "the runner's SSH keys are not in `ssh.keys_dir` of this machine";
            Error::new(ErrorKind::PermissionDenied, message)
        })?;
        let target = Target {
            id: instance.native_id.clone(),
            address: self.pick(&instance.addresses)?,
            keys: Arc::new(keys),
        };
        Ok(SshExec::new(Arc::clone(&self.pool), target))
    }

    /// The address to connect to: the private one comes first.
    fn pick(&self, addresses: &[IpAddr]) -> Result<IpAddr> {
        let found = match self.address {
            Address::Private => addresses.first(),
            Address::Public => addresses.get(1),
        };
        found.copied().ok_or_else(|| {
            let message = "the instance has no such address (yet)";
            Error::new(ErrorKind::Unreachable, message).with_context("key", "ssh.address")
        })
    }

    pub(super) async fn forget(&self, instance: &CloudInstance) -> Result<()> {
        self.pool.forget(&instance.native_id);
        let (keys, name) = (self.keys.clone(), instance.name.clone());
        blocking(move || keys.remove(&name)).await
    }

    /// The runners of a prefix that have keys here.
    pub(crate) async fn names(
        &self,
        prefix: &runner_manager_core::NamePrefix,
    ) -> Result<Vec<RunnerName>> {
        let (keys, prefix) = (self.keys.clone(), prefix.clone());
        blocking(move || keys.names(&prefix)).await
    }

    /// Whether a runner has keys here.
    pub(super) async fn has_keys(&self, name: &RunnerName) -> Result<bool> {
        let (keys, name) = (self.keys.clone(), name.clone());
        blocking(move || Ok(keys.load(&name)?.is_some())).await
    }

    /// Removes a runner's keys.
    pub(crate) async fn remove_keys(&self, name: &RunnerName) -> Result<()> {
        let (keys, name) = (self.keys.clone(), name.clone());
        blocking(move || keys.remove(&name)).await
    }
}
