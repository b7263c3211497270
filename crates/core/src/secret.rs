//! Secrets, and where they come from.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::{Error, ErrorKind};

/// A secret text: wiped from memory when dropped, and never shown by `Debug`.
///
/// It has no `Display`, no `Serialize` and no `Deserialize`, so that it enters neither logs nor
/// files by accident.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(SecretString::from(secret.into()))
    }

    /// The secret itself. Every call of this is a place to look at twice.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Where a secret is kept. The secret itself never stands in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file whose whole content, less surrounding white space, is the secret.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
}

impl SecretSource {
    /// The most bytes that a secret's file may have.
    const MAX_BYTES: u64 = 64 * 1024;

    /// Reads the secret. Small and local: call it off the hot path.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] when the source is absent, unreadable, empty or too large.
    pub fn read(&self) -> Result<Secret, Error> {
        let text = match self {
            Self::File(path) => {
                let describe = |what: &str| {
                    Error::new(
                        ErrorKind::InvalidConfig,
                        format!("{what} the secret's file"),
                    )
                    .with_context("file", path.display())
                };
                let size = std::fs::metadata(path)
                    .map_err(|e| describe("cannot read").with_source(e))?
                    .len();
                if size > Self::MAX_BYTES {
                    return Err(describe("refuse to read more than 64 KiB from"));
                }
                std::fs::read_to_string(path).map_err(|e| describe("cannot read").with_source(e))?
            }
            Self::Environment(name) => std::env::var(name).map_err(|e| {
                Error::new(
                    ErrorKind::InvalidConfig,
                    "cannot read the secret's variable",
                )
                .with_context("variable", name)
                .with_source(e)
            })?,
        };
        let secret = text.trim();
        if secret.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("the secret in {self} is empty"),
            ));
        }
        Ok(Secret::new(secret))
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_secret() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(***)");
    }

    #[test]
    fn an_absent_or_empty_source_says_which() {
        let missing = SecretSource::File("/nonexistent/token".into())
            .read()
            .unwrap_err();
        assert!(
            missing.to_string().contains("/nonexistent/token"),
            "{missing}"
        );
        let unset = SecretSource::Environment("RUNNER_MANAGER_NO_SUCH".into())
            .read()
            .unwrap_err();
        assert!(
            unset.to_string().contains("RUNNER_MANAGER_NO_SUCH"),
            "{unset}"
        );
    }
}
