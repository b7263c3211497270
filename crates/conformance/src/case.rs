//! A case and what becomes of it.

use std::fmt;

use futures::future::BoxFuture;
use runner_manager_core::Error;

use crate::{Bench, Cannot};

/// What a case showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The contract is kept.
    Verified,
    /// The backend cannot do this, says so, and refuses without effect.
    Refused(&'static str),
    /// The harness cannot bring it about, and a waiver with this reason excuses it.
    Waived(String),
}

/// Why a case did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The contract is broken.
    Wrong(String),
    /// The harness cannot bring about what the case needs, for this reason.
    Cannot(&'static str),
}

impl Failure {
    /// A failure in words.
    pub fn new(text: impl Into<String>) -> Self {
        Self::Wrong(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(text) => f.write_str(text),
            Self::Cannot(reason) => {
                write!(
                    f,
                    "the harness cannot bring it about, and no waiver excuses it: {reason}"
                )
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Wrong(format!("unexpected error: {error}"))
    }
}

impl From<Cannot> for Failure {
    fn from(Cannot(reason): Cannot) -> Self {
        Self::Cannot(reason)
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

pub(crate) use check;
