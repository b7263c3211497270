//! The socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_manager_core::{Error, ErrorKind, Result};
use runner_manager_fleet::Fleet;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::api;

/// Where the socket of a state folder is.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("admin.sock")
}

/// The API, served until dropped.
pub struct AdminServer {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Serves the API of a fleet in its state folder. The caller holds the lock of the folder,
    /// so that a socket that is there is of a manager that is gone.
    ///
    /// # Errors
    /// [`ErrorKind::Local`] when the socket cannot be made; a path of more than 107 bytes is too
    /// long for one.
    pub async fn start(state_dir: &Path, fleet: Arc<Fleet>) -> Result<Self> {
        let path = path(state_dir);
        let listener = bind(&path).await.map_err(|e| {
            let message = "cannot make the socket for operators; a path of more than 107 bytes is too long for one";
            Error::new(ErrorKind::Local, message)
                .with_context("path", path.display())
                .with_source(e)
        })?;
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, api::routes(fleet)).await {
                tracing::error!(%error, "operators are served no more");
            }
        });
        Ok(Self { path, task })
    }
}

async fn bind(path: &Path) -> io::Result<UnixListener> {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The folder lets nobody else in, before and after this.
    let listener = UnixListener::bind(path)?;
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).await?;
    Ok(listener)
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.task.abort();
        // A socket that stays behind is replaced by the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}
