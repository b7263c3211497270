//! The backend's [`Cloud`]: each call is one piece of blocking work on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use runner_manager_core::{
    Capability, Cloud, CloudInstance, Error, ErrorKind, Guest, LaunchSpec, Leftover, NamePrefix,
    Result, RunnerName,
};

use crate::config::ProcessConfig;
use crate::guest::ProcessGuest;
use crate::host::{self, Host};
use crate::{connect, end, launch, leftovers, logs};

/// Runners as processes of this machine.
///
/// Work that was begun goes on when its future is dropped, up to its own deadline; a launch
/// that nobody waits for is undone unless its runner has started.
#[derive(Debug, Clone)]
pub struct ProcessCloud {
    host: Arc<Host>,
    capability: Capability,
}

impl ProcessCloud {
    /// Checks the configuration and this machine, makes the work folder, and unpacks the
    /// runner archive if that has not been done yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] with the key, [`ErrorKind::PermissionDenied`] with the path,
    /// or [`ErrorKind::Local`].
    pub async fn connect(config: ProcessConfig) -> Result<Self> {
        let host = blocking(move || connect::connect(config)).await?;
        let cgroups = host.cgroups.is_some();
        Ok(Self {
            capability: host::capability(host.users.as_ref(), cgroups),
            host: Arc::new(host),
        })
    }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => {
            Err(Error::new(ErrorKind::Unexpected, "a worker thread failed").with_source(error))
        }
    }
}

/// Turns true when it is dropped.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[async_trait]
impl Cloud for ProcessCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        let (host, spec) = (Arc::clone(&self.host), spec.clone());
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = OnDrop(Arc::clone(&cancelled));
        blocking(move || launch::launch(&host, &spec, &cancelled)).await
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        let (host, name) = (Arc::clone(&self.host), name.clone());
        blocking(move || host.get(&name)).await
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        let (host, prefix) = (Arc::clone(&self.host), prefix.clone());
        blocking(move || host.list(&prefix)).await
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        let (host, name) = (Arc::clone(&self.host), instance.name.clone());
        blocking(move || end::terminate(&host, &name)).await
    }

    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        let (host, prefix) = (Arc::clone(&self.host), prefix.clone());
        blocking(move || leftovers::find(&host, &prefix)).await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        let (host, leftover) = (Arc::clone(&self.host), leftover.clone());
        blocking(move || leftovers::remove(&host, &leftover)).await
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        Ok(Box::new(ProcessGuest {
            host: Arc::clone(&self.host),
            name: instance.name.clone(),
        }))
    }

    async fn console(&self, instance: &CloudInstance) -> Result<Option<String>> {
        let (host, name) = (Arc::clone(&self.host), instance.name.clone());
        blocking(move || logs::tail(&host.folder(&name), logs::CONSOLE_BYTES)).await
    }
}
