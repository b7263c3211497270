//! The error of a value that may not enter the system.

/// A value that was refused where it entered, with the rule it broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} {reason}")]
pub struct InvalidValue {
    what: &'static str,
    value: String,
    reason: String,
}

impl InvalidValue {
    /// Refuses `value`; `reason` continues the sentence "name prefix "x" …".
    pub fn new(what: &'static str, value: &str, reason: impl Into<String>) -> Self {
        // A refused value is shown, but never a page of it.
        let value = value.chars().take(80).collect();
        Self {
            what,
            value,
            reason: reason.into(),
        }
    }
}
