//! One error type for the whole workspace: kind × retry × effect, plus context.

use std::fmt;
use std::time::Duration;

/// The result of the workspace's libraries.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms a caller can decide on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong; a human must change it.
    InvalidConfig,
    /// The request itself is wrong; repeating it gives the same answer.
    InvalidRequest,
    /// The credentials are missing, wrong, expired or revoked.
    Unauthenticated,
    /// The credentials are known but may not do this.
    PermissionDenied,
    /// What was asked for does not exist.
    NotFound,
    /// What should be made exists already, and is not the same thing.
    AlreadyExists,
    /// A runner is busy with a job, so that it is kept.
    Busy,
    /// A quota or a limit of this pool's account or host is reached.
    QuotaExceeded,
    /// The other side has no capacity for this just now.
    NoCapacity,
    /// The other side asks for fewer calls.
    RateLimited,
    /// The other side could not be reached.
    Unreachable,
    /// No answer came before the deadline.
    TimedOut,
    /// The other side answered with something that its protocol does not know.
    BadAnswer,
    /// The backend cannot do this; its capability says why.
    Unsupported,
    /// This machine failed: disk, files, processes, database.
    Local,
    /// Anything else.
    Unexpected,
}

impl ErrorKind {
    /// The kind as one word, for logs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidConfig => "invalid_config",
            Self::InvalidRequest => "invalid_request",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Busy => "busy",
            Self::QuotaExceeded => "quota_exceeded",
            Self::NoCapacity => "no_capacity",
            Self::RateLimited => "rate_limited",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::BadAnswer => "bad_answer",
            Self::Unsupported => "unsupported",
            Self::Local => "local",
            Self::Unexpected => "unexpected",
        }
    }
}

/// Whether and when the same call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call gives the same answer.
    Never,
    /// The call may succeed after this long.
    After(Duration),
    /// The call was repeated already, this often in all, and its budget is used up.
    Exhausted {
        /// How many attempts were made.
        attempts: u32,
    },
}

/// What a failed call may have left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing was changed.
    None,
    /// Something was changed and remains; the context says what.
    Partial,
    /// It is not known whether the call took effect: look before trying again.
    Unknown,
}

/// An error of any part of the workspace.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    retry: Retry,
    effect: Effect,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error that is not worth a retry and had no effect. `message` is a lowercase fragment
    /// that fits after "cannot …: ".
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            retry: Retry::Never,
            effect: Effect::None,
            context: Vec::new(),
            source: None,
        }))
    }

    /// Says whether and when to try again.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Says what may be left behind.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    /// Adds where it happened. Never a secret.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether and when to try again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// What may be left behind.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// The message alone, without context and cause.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The first context value of this key.
    #[must_use]
    pub fn context(&self, key: &str) -> Option<&str> {
        self.0
            .context
            .iter()
            .find(|(k, _)| *k == key)
            .map(|(_, v)| v.as_str())
    }
}

impl fmt::Display for Error {
    /// The message, its context and its causes, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (index, (key, value)) in self.0.context.iter().enumerate() {
            let open = if index == 0 { " (" } else { ", " };
            write!(f, "{open}{key}: {value}")?;
        }
        if !self.0.context.is_empty() {
            f.write_str(")")?;
        }
        let mut cause = std::error::Error::source(self);
        let mut last = String::new();
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors repeat their cause in their own text.
            if !last.contains(&text) {
                write!(f, ": {text}")?;
            }
            last = text;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("retry", &self.0.retry)
            .field("effect", &self.0.effect)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_holds_message_context_and_cause_once() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Local, "cannot write the log")
            .with_context("file", "a.log")
            .with_context("runner", "app-0123456789ab")
            .with_source(io);
        assert_eq!(
            error.to_string(),
            "cannot write the log (file: a.log, runner: app-0123456789ab): disk on fire"
        );
        assert_eq!(error.retry(), Retry::Never);
        assert_eq!(error.effect(), Effect::None);
    }
}
