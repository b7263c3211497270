//! What can go wrong in the simulator itself.

use std::fmt;

/// An error of the simulator, in words that say what to do.
#[derive(Debug)]
pub struct Error(String);

/// The result of the simulator's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
