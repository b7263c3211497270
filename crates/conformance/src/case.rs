//! A case and what becomes of it.

use std::fmt;

use futures::future::BoxFuture;
use runner_manager_core::Error;

use crate::Bench;

/// What a case showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The contract is kept.
    Verified,
    /// The backend cannot do this, says so, and refuses without effect.
    Refused(&'static str),
    /// The harness cannot bring it about, for this reason.
    Waived(&'static str),
}

/// Why a case failed.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// A failure in words.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

/// The end of a case.
pub type Verdict = Result<Outcome, Failure>;

/// A named case.
#[derive(Clone, Copy)]
pub struct Case {
    /// `group::name`.
    pub name: &'static str,
    pub(crate) run: fn(Bench) -> BoxFuture<'static, Verdict>,
}

/// Fails the case unless a condition holds.
macro_rules! check {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::Failure::new(format!($($words)+)));
        }
    };
}

/// Waives the case when the harness cannot do its part.
macro_rules! need {
    ($did:expr) => {
        if let $crate::Did::Cannot(reason) = $did {
            return Ok($crate::Outcome::Waived(reason));
        }
    };
}

pub(crate) use {check, need};
