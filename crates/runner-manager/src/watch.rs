//! Notices when the configuration file changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use runner_manager_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc;

/// How long after an event the file is read: editors write in several steps.
const PAUSE: Duration = Duration::from_millis(300);

/// Watches the folder of a file: what replaces the file is seen too, a renamed link as well.
pub(crate) struct FileWatch {
    path: PathBuf,
    last: Option<Vec<u8>>,
    events: mpsc::Receiver<()>,
    /// Sends the events; stops when dropped.
    _watcher: RecommendedWatcher,
}

impl FileWatch {
    pub(crate) fn start(path: &Path) -> Result<Self> {
        let (tell, events) = mpsc::channel(1);
        let failed = |e: notify::Error| {
            Error::new(ErrorKind::Local, "cannot watch the configuration")
                .with_context("file", path.display())
                .with_source(e)
        };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Whoever only reads the file changes nothing. A full channel says already that there
            // is something to look at.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = tell.try_send(());
            }
        })
        .map_err(failed)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        watcher
            .watch(folder, RecursiveMode::NonRecursive)
            .map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            last: std::fs::read(path).ok(),
            events,
            _watcher: watcher,
        })
    }

    /// Waits until the file has another content than before. Safe to drop.
    pub(crate) async fn changed(&mut self) {
        loop {
            if self.events.recv().await.is_none() {
                return std::future::pending().await;
            }
            tokio::time::sleep(PAUSE).await;
            let now = tokio::fs::read(&self.path).await.ok();
            // A file that is missing for a moment is being replaced.
            if now.is_some() && now != self.last {
                self.last = now;
                return;
            }
        }
    }
}
