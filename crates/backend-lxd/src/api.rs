//! What the server answers: the table of states, and the map of its errors.

use std::time::Duration;

use jiff::Timestamp;
use runner_manager_core::{CloudRunnerState, Effect, Error, ErrorKind, Retry};

use crate::wire::{Instance, Operation};

/// The one table from native to contract states.
///
/// The native words are the texts of the status codes 100 to 113, 200, 400 and 401, of which
/// instances have some and operations others. An instance that was never started is still being
/// made: it is created and started in two steps.
pub(crate) fn state(status: &str, started: bool) -> CloudRunnerState {
    match status {
        "Stopped" if !started => CloudRunnerState::Created,
        "Operation created" | "Pending" | "Starting" => CloudRunnerState::Created,
        "Started" | "Running" | "Ready" | "Thawed" => CloudRunnerState::Active,
        "Stopped" | "Stopping" | "Aborting" | "Freezing" | "Frozen" => CloudRunnerState::Stopped,
        "Error" => CloudRunnerState::Error,
        other => CloudRunnerState::Unexpected(other.to_owned()),
    }
}

/// Whether the instance was ever started.
pub(crate) fn was_started(instance: &Instance) -> bool {
    instance.last_used_at > Timestamp::UNIX_EPOCH
        || instance.config.contains_key("volatile.last_state.power")
}

/// Words in an error's text, and what they mean. The server says most of what goes wrong in an
/// operation with the status 400 and a sentence.
const WORDS: [(&str, ErrorKind); 21] = [
    ("already exists", ErrorKind::AlreadyExists),
    ("UNIQUE constraint failed", ErrorKind::AlreadyExists),
    (
        "creating instance record: Instance is busy",
        ErrorKind::AlreadyExists,
    ),
    // Another launch of this name holds it, and will find that it came too late.
    (
        "start operation: Instance is busy running a \"create\"",
        ErrorKind::AlreadyExists,
    ),
    ("Instance is busy running", ErrorKind::InvalidRequest),
    ("already running", ErrorKind::AlreadyExists),
    (
        "Reached maximum number of instances",
        ErrorKind::QuotaExceeded,
    ),
    ("project limit", ErrorKind::QuotaExceeded),
    ("limit of", ErrorKind::QuotaExceeded),
    ("no space left", ErrorKind::NoCapacity),
    ("disk quota exceeded", ErrorKind::NoCapacity),
    ("cannot allocate memory", ErrorKind::NoCapacity),
    ("No suitable cluster member", ErrorKind::NoCapacity),
    ("isn't currently running", ErrorKind::Unreachable),
    ("Instance is not running", ErrorKind::Unreachable),
    ("is offline", ErrorKind::Unreachable),
    ("isn't supported", ErrorKind::Unsupported),
    ("not operational", ErrorKind::Unsupported),
    ("doesn't exist", ErrorKind::NotFound),
    ("not found", ErrorKind::NotFound),
    ("not authorized", ErrorKind::PermissionDenied),
];

/// What an HTTP status, or that of a failed operation, and the server's words mean.
pub(crate) fn classify(status: u16, message: &str) -> ErrorKind {
    let lower = message.to_lowercase();
    let said = WORDS
        .iter()
        .find(|(words, _)| lower.contains(&words.to_lowercase()))
        .map(|(_, kind)| *kind);
    match (status, said) {
        (401, _) => ErrorKind::Unauthenticated,
        (403, _) => ErrorKind::PermissionDenied,
        (404, _) => ErrorKind::NotFound,
        (409, _) => ErrorKind::AlreadyExists,
        (429, _) => ErrorKind::RateLimited,
        (502..=504, _) => ErrorKind::Unreachable,
        (_, Some(kind)) => kind,
        (400 | 412, None) => ErrorKind::InvalidRequest,
        _ => ErrorKind::Unexpected,
    }
}

/// When it is worth another try, of what was refused.
fn retry(kind: ErrorKind) -> Retry {
    match kind {
        ErrorKind::Unreachable | ErrorKind::Unexpected => Retry::After(Duration::from_secs(5)),
        ErrorKind::RateLimited => Retry::After(Duration::from_secs(10)),
        ErrorKind::NoCapacity | ErrorKind::QuotaExceeded => Retry::After(Duration::from_secs(60)),
        _ => Retry::Never,
    }
}

/// The error of an answer. The server refused, so that nothing has happened.
pub(crate) fn refused(status: u16, message: &str) -> Error {
    let kind = classify(status, message);
    Error::new(kind, "the server refused")
        .with_retry(retry(kind))
        .with_context("status", status)
        .with_context("server's words", shown(message))
}

/// The error of an operation that failed. The server undoes what it had begun.
pub(crate) fn failed(operation: &Operation) -> Error {
    let kind = classify(operation.status_code, &operation.err);
    Error::new(kind, "the server's operation failed")
        .with_retry(retry(kind))
        .with_context("server's words", shown(&operation.err))
}

/// The error of a request that got no answer.
pub(crate) fn unanswered(error: reqwest::Error) -> Error {
    // A URL may name an instance, and never a secret; still, the message is not its place.
    let error = error.without_url();
    let (kind, message, effect) = if error.is_connect() {
        let message = "the server cannot be reached; is it running?";
        (ErrorKind::Unreachable, message, Effect::None)
    } else if error.is_timeout() {
        let message = "the server gave no answer before the deadline";
        (ErrorKind::TimedOut, message, Effect::Unknown)
    } else {
        let message = "the connection to the server broke";
        (ErrorKind::Unreachable, message, Effect::Unknown)
    };
    Error::new(kind, message)
        .with_retry(Retry::After(Duration::from_secs(5)))
        .with_effect(effect)
        .with_source(error)
}

/// An answer that is not of this API.
pub(crate) fn strange(what: &'static str) -> Error {
    Error::new(ErrorKind::BadAnswer, "the server gave a strange answer")
        .with_effect(Effect::Unknown)
        .with_context("answer", what)
}

/// The server's words, fit for one line of a log.
fn shown(text: &str) -> String {
    let clean = text.trim().chars().take(400);
    clean
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use CloudRunnerState as S;

    #[test]
    fn every_native_state_is_mapped() {
        for (status, started, wanted) in [
            ("Operation created", true, S::Created),
            ("Pending", true, S::Created),
            ("Starting", true, S::Created),
            ("Stopped", false, S::Created),
            ("Started", true, S::Active),
            ("Running", true, S::Active),
            ("Running", false, S::Active),
            ("Ready", true, S::Active),
            ("Thawed", true, S::Active),
            ("Stopped", true, S::Stopped),
            ("Stopping", true, S::Stopped),
            ("Aborting", true, S::Stopped),
            ("Freezing", true, S::Stopped),
            ("Frozen", true, S::Stopped),
            ("Error", true, S::Error),
            ("Error", false, S::Error),
            // Those of operations alone.
            ("Success", true, S::Unexpected("Success".into())),
            ("Failure", true, S::Unexpected("Failure".into())),
            ("Cancelling", true, S::Unexpected("Cancelling".into())),
            ("Cancelled", true, S::Unexpected("Cancelled".into())),
            ("Melting", true, S::Unexpected("Melting".into())),
        ] {
            assert_eq!(state(status, started), wanted, "{status} {started}");
        }
    }

    #[test]
    fn errors_are_classified() {
        use ErrorKind as K;
        for (status, message, wanted) in [
            (400, "Bad request", K::InvalidRequest),
            (401, "not authorized", K::Unauthenticated),
            (403, "not authorized", K::PermissionDenied),
            (404, "Instance not found", K::NotFound),
            (404, "Image alias not found", K::NotFound),
            (409, "Instance \"a\" already exists", K::AlreadyExists),
            (412, "ETag doesn't match", K::InvalidRequest),
            (429, "slow down", K::RateLimited),
            (500, "Requested profile \"nope\" doesn't exist", K::NotFound),
            (500, "boom", K::Unexpected),
            (
                500,
                "Error inserting volume \"a\": UNIQUE constraint failed: storage_volumes.name",
                K::AlreadyExists,
            ),
            (503, "LXD daemon is shutting down", K::Unreachable),
            (
                400,
                "Failed creating instance record: Add instance info to the database: This \
                 \"instances\" entry already exists",
                K::AlreadyExists,
            ),
            (
                400,
                "Failed creating instance record: Instance is busy running a \"create\" operation",
                K::AlreadyExists,
            ),
            (
                500,
                "Failed to create instance update operation: Instance is busy running a \"start\" \
                 operation",
                K::InvalidRequest,
            ),
            (
                400,
                "Failed to create instance start operation: Instance is busy running a \"create\" \
                 operation",
                K::AlreadyExists,
            ),
            (
                400,
                "Failed to create instance delete operation: Instance is busy running a \"create\" \
                 operation",
                K::InvalidRequest,
            ),
            (400, "The instance is already running", K::AlreadyExists),
            (
                400,
                "Failed creating instance record: Instance type \"virtual-machine\" is not \
                 supported on this server: vhost_vsock kernel module not loaded",
                K::InvalidRequest,
            ),
            (
                400,
                "Reached maximum number of instances of type \"container\" in project \"ci\"",
                K::QuotaExceeded,
            ),
            (400, "write /a: no space left on device", K::NoCapacity),
            (400, "fork/exec: cannot allocate memory", K::NoCapacity),
            (400, "Instance is not running", K::Unreachable),
            (400, "LXD VM agent isn't currently running", K::Unreachable),
        ] {
            assert_eq!(classify(status, message), wanted, "{status} {message}");
        }
    }

    #[test]
    fn what_passes_is_worth_another_try_and_what_is_wrong_is_not() {
        assert_eq!(refused(400, "Unknown key").retry(), Retry::Never);
        assert_ne!(refused(503, "busy").retry(), Retry::Never);
        assert_ne!(
            refused(400, "no space left on device").retry(),
            Retry::Never
        );
        let long = refused(400, &format!("a\nb{}", "x".repeat(999))).to_string();
        assert!(!long.contains('\n') && long.len() < 600);
    }
}
