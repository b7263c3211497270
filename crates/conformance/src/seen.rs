//! What a harness did and saw.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runner_manager_core::RunnerName;

/// How many things of each kind exist: instances, key pairs, folders, processes, whatever the
/// backend makes.
pub type Counts = BTreeMap<&'static str, usize>;

/// It cannot be brought about here, for this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cannot(pub &'static str);

/// Whether the harness could do what a case asked for.
pub type Did = Result<(), Cannot>;

/// What the harness saw, where it can look.
pub type Seen<T> = Result<T, Cannot>;

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobFate {
    /// No worker has ever run for it: GitHub gives it to another runner.
    NotBegun,
    /// Its worker runs.
    Runs,
    /// Its worker ran and was ended.
    Killed,
}

/// What the runner on an instance was given, as the runner saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// The name that it registers with.
    pub name: String,
    /// The labels, in order.
    pub labels: Vec<String>,
    /// The runner group, if it was given one.
    pub group: Option<String>,
    /// Whether [`trace`] of the runner exists, on the instance or on the manager's machine:
    /// something of the input was run.
    pub traced: bool,
}

/// The file that exists when a part of a nasty input was run: the input holds `touch` with this
/// path.
#[must_use]
pub fn trace(name: &RunnerName) -> PathBuf {
    PathBuf::from(format!("/tmp/conformance-ran-{name}"))
}

/// Where a secret must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The arguments of processes, on the manager's machine and on the instance.
    Arguments,
    /// Files that more than their owner may read, on the manager's machine and on the instance.
    Files,
    /// What the cloud's API and its metadata service show of an instance to others than the
    /// manager: tags, user-data (to jobs and to other projects' readers), the console.
    Metadata,
}

/// A text that others can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Where exactly, in words for the report.
    pub place: String,
    /// What stands there.
    pub text: Vec<u8>,
}

/// What is put in the place of an exchange file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Planted {
    /// Nothing: what is there is removed.
    Nothing,
    /// A regular file with these bytes, which may be more than are taken.
    Bytes(Vec<u8>),
    /// A symbolic link to a readable file that holds valid metrics: following it would work.
    Symlink,
    /// Something that has no end when it is read: a pipe that nobody closes, or a link to an
    /// endless device.
    Endless,
}
