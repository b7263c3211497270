//! What went wrong with a connection, in the workspace's terms.

use std::fmt::Display;

use runner_manager_core::{Error, ErrorKind, Result, Retry};
use russh::keys::ssh_key::Fingerprint;

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The host showed another key than the pinned one.
    HostKey(Fingerprint),
    /// The host showed a certificate, which nobody asked for.
    Certificate,
    /// Anything else.
    Ssh(russh::Error),
}

impl From<russh::Error> for Fault {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl Fault {
    pub(crate) fn into_error(self) -> Error {
        let stranger = |shown: &dyn Display| {
            let message = "the host did not prove to be the instance: it showed another host key";
            Error::new(ErrorKind::Unauthenticated, message).with_context("shown", shown)
        };
        match self {
            Self::HostKey(shown) => stranger(&shown),
            Self::Certificate => stranger(&"a certificate"),
            // A host whose algorithms do not meet the pinned key's shows no such key.
            Self::Ssh(russh::Error::NoCommonAlgo { theirs, .. }) => stranger(&theirs.join(", ")),
            Self::Ssh(error) => unreachable("the SSH connection failed").with_source(error),
        }
    }
}

/// The host cannot be reached.
pub(crate) fn unreachable(message: &str) -> Error {
    Error::new(ErrorKind::Unreachable, message)
}

/// Gives a step of connecting its deadline. A host that cannot even be connected to is
/// unreachable; one that says nothing then is slow.
pub(crate) async fn reach<T>(
    limit: std::time::Duration,
    kind: ErrorKind,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Error::new(kind, "no SSH connection before the deadline")
            .with_retry(Retry::After(limit))
            .with_context("deadline", format!("{} s", limit.as_secs_f64()))),
    }
}
