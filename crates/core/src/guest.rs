//! The way into an instance.

use async_trait::async_trait;

use crate::{CloudInitStatus, CommandOutput, Error, ErrorKind, Result};

/// What a look into an instance found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestProbe {
    /// Whether the runner has been installed.
    pub installed: bool,
    /// What cloud-init says; `None` where the instance has none, or was not asked: a look does not
    /// take from a job that runs.
    pub cloud_init: Option<CloudInitStatus>,
    /// Whether `Runner.Listener` runs.
    pub listener: bool,
    /// Whether `Runner.Worker` runs, which is to say: a job.
    pub worker: bool,
}

/// Which runner may be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// Only one without a job.
    Idle,
    /// One with a job as well.
    IdleOrBusy,
}

/// What became of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopOutcome {
    /// The runner was stopped and takes no job any more.
    Stopped,
    /// A job runs, so that the runner was left as it was.
    Busy,
    /// No runner ran.
    NotRunning,
}

/// A file that the instance leaves for the manager, in its metrics-exchange folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExchangeFile {
    /// `runner-installed.timestamp`.
    Installed,
    /// `pre-job-metrics.json`.
    PreJob,
    /// `post-job-metrics.json`.
    PostJob,
}

impl ExchangeFile {
    /// The most bytes that are taken from one file.
    pub const MAX_BYTES: usize = 1024;

    /// The name of the file.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Installed => "runner-installed.timestamp",
            Self::PreJob => "pre-job-metrics.json",
            Self::PostJob => "post-job-metrics.json",
        }
    }
}

/// What was found in the place of an exchange file. Whatever it is, it is untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestFile {
    /// There is none.
    Absent,
    /// Its bytes, at most [`ExchangeFile::MAX_BYTES`].
    Bytes(Vec<u8>),
    /// It was not read, for this reason: too large, not a regular file.
    Refused(String),
}

/// The way into one instance: SSH, an exec API, a guest agent, the process itself.
///
/// The three questions are what health, flush and metrics need; a backend answers each in one
/// round trip.
#[async_trait]
pub trait Guest: Send + Sync {
    /// Looks at the runner.
    async fn probe(&self) -> Result<GuestProbe>;

    /// Stops the runner if the mode allows. Check and stop are one step: no job can begin
    /// between them and be killed by [`StopMode::Idle`].
    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome>;

    /// Reads an exchange file.
    async fn read_file(&self, file: ExchangeFile) -> Result<GuestFile>;

    /// Runs an operator's command ([`crate::Capability::shell`]).
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the backend runs none.
    async fn run(&self, _argv: Vec<String>) -> Result<CommandOutput> {
        let message = "this backend runs no commands on its instances";
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// The program of this machine that opens an interactive shell on the instance, as in
    /// [`crate::Exec::terminal`].
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where there is none.
    fn terminal(&self) -> Result<Vec<String>> {
        let message = "this backend opens no shell on its instances";
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}
