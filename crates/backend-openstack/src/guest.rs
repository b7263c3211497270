//! The way into a server: SSH, and what was seen on it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use runner_manager_core::{
    CommandOutput, ExchangeFile, ExecGuest, Guest, GuestFile, GuestProbe, Result, StopMode,
    StopOutcome,
};
use runner_manager_guest_ssh::SshExec;

/// The servers, by id, on which an installed runner was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Installed(Arc<Mutex<HashSet<String>>>);

impl Installed {
    fn saw(&self, id: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned());
    }

    /// Whether one was seen; it is forgotten with this.
    pub(crate) fn take(&self, id: &str) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
    }
}

/// A guest that remembers whether its boot came to its end.
pub(crate) struct OsGuest {
    pub(crate) inner: ExecGuest<SshExec>,
    pub(crate) id: String,
    pub(crate) installed: Installed,
}

#[async_trait]
impl Guest for OsGuest {
    async fn probe(&self) -> Result<GuestProbe> {
        let probe = self.inner.probe().await?;
        if probe.installed {
            self.installed.saw(&self.id);
        }
        Ok(probe)
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        self.inner.stop_runner(mode).await
    }

    async fn read_file(&self, file: ExchangeFile) -> Result<GuestFile> {
        let found = self.inner.read_file(file).await?;
        if file == ExchangeFile::Installed && found != GuestFile::Absent {
            self.installed.saw(&self.id);
        }
        Ok(found)
    }

    async fn run(&self, argv: Vec<String>) -> Result<CommandOutput> {
        self.inner.run(argv).await
    }

    fn terminal(&self) -> Result<Vec<String>> {
        self.inner.terminal()
    }
}
