//! What the API's words mean: the state table, and the error map.

use std::time::Duration;

use runner_manager_core::{CloudRunnerState, Effect, Error, ErrorKind, Retry};
use serde_json::Value;

/// How long to wait before asking again for what is full.
const FULL: Duration = Duration::from_secs(60);

/// How long to wait before asking again for what failed on the other side.
const FAILED: Duration = Duration::from_secs(10);

/// Nova's server states, mapped.
/// <https://docs.openstack.org/api-guide/compute/server_concepts.html>
pub(crate) fn state(status: &str, task: Option<&str>) -> CloudRunnerState {
    if matches!(task, Some("deleting" | "soft-deleting")) {
        return CloudRunnerState::Deleted;
    }
    match status {
        "BUILD" | "REBUILD" => CloudRunnerState::Created,
        "ACTIVE" | "REBOOT" | "HARD_REBOOT" | "PASSWORD" | "MIGRATING" | "VERIFY_RESIZE" => {
            CloudRunnerState::Active
        }
        "DELETED" | "SOFT_DELETED" => CloudRunnerState::Deleted,
        "ERROR" => CloudRunnerState::Error,
        "SHUTOFF" | "SUSPENDED" | "PAUSED" | "SHELVED" | "SHELVED_OFFLOADED" | "RESCUE"
        | "RESIZE" | "REVERT_RESIZE" => CloudRunnerState::Stopped,
        "UNKNOWN" => CloudRunnerState::Unknown,
        other => CloudRunnerState::Unexpected(other.to_owned()),
    }
}

/// What the answer to a request that changes something says of its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changes {
    Nothing,
    Something,
}

/// The message of an error's body: each service has its own shape, one level deep.
pub(crate) fn message(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let inner = json.as_object().and_then(|root| root.values().next());
    let fields = ["message", "detail", "title"];
    let in_object = |object: &Value| {
        let mut texts = fields.iter().filter_map(|key| object.get(*key)?.as_str());
        texts.next().map(str::to_owned)
    };
    let found = inner.and_then(in_object).or_else(|| in_object(&json));
    let text = found.unwrap_or_else(|| body.trim().to_owned());
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(300).collect()
}

fn says_quota(message: &str) -> bool {
    let text = message.to_ascii_lowercase();
    text.contains("quota") && (text.contains("exceed") || text.contains("over"))
}

/// A quota that would be exceeded.
pub(crate) fn full(text: String) -> Error {
    Error::new(ErrorKind::QuotaExceeded, text).with_retry(Retry::After(FULL))
}

/// Turns an answer that is no success into an error.
pub(crate) fn classify(
    status: u16,
    retry_after: Option<Duration>,
    body: &str,
    changes: Changes,
) -> Error {
    let text = message(body);
    let after = |default: Duration| Retry::After(retry_after.unwrap_or(default));
    let (kind, retry) = match status {
        // Nova says 403 or 413, Neutron 409, Cinder 413.
        403 | 409 | 413 if says_quota(&text) => (ErrorKind::QuotaExceeded, after(FULL)),
        400 | 405 | 406 | 422 => (ErrorKind::InvalidRequest, Retry::Never),
        401 => (ErrorKind::Unauthenticated, Retry::Never),
        403 => (ErrorKind::PermissionDenied, Retry::Never),
        404 | 410 => (ErrorKind::NotFound, Retry::Never),
        409 => (ErrorKind::AlreadyExists, Retry::Never),
        413 | 429 => (ErrorKind::RateLimited, after(FAILED)),
        502..=504 => (ErrorKind::Unreachable, after(FAILED)),
        500..=599 => (ErrorKind::Unexpected, after(FAILED)),
        _ => (ErrorKind::BadAnswer, Retry::Never),
    };
    let effect = match changes {
        Changes::Something if status >= 500 => Effect::Unknown,
        _ => Effect::None,
    };
    let text = if text.is_empty() {
        "the cloud gave no reason".to_owned()
    } else {
        text
    };
    Error::new(kind, text)
        .with_retry(retry)
        .with_effect(effect)
        .with_context("status", status)
}

/// Turns the fault of a server in the state `ERROR` into an error. Such faults are of a flavor
/// on an image in a zone: another flavor may well be had.
pub(crate) fn fault(code: u16, text: &str) -> Error {
    let lower = text.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let kind = if says_quota(text) {
        ErrorKind::QuotaExceeded
    } else if has(&[
        "no valid host",
        "exceeded maximum number of retries",
        "insufficient",
        "exhausted all hosts",
    ]) {
        ErrorKind::NoCapacity
    } else if code == 404 && has(&["image", "flavor"]) {
        ErrorKind::NotFound
    } else {
        ErrorKind::Unexpected
    };
    let retry = match kind {
        ErrorKind::NotFound => Retry::Never,
        _ => Retry::After(FULL),
    };
    let text = if text.is_empty() {
        "the server went into the state ERROR"
    } else {
        text
    };
    Error::new(kind, message(text))
        .with_retry(retry)
        .with_context("fault", code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_nova_is_mapped() {
        use CloudRunnerState as S;
        let table = [
            ("ACTIVE", S::Active),
            ("BUILD", S::Created),
            ("DELETED", S::Deleted),
            ("ERROR", S::Error),
            ("HARD_REBOOT", S::Active),
            ("MIGRATING", S::Active),
            ("PASSWORD", S::Active),
            ("PAUSED", S::Stopped),
            ("REBOOT", S::Active),
            ("REBUILD", S::Created),
            ("RESCUE", S::Stopped),
            ("RESIZE", S::Stopped),
            ("REVERT_RESIZE", S::Stopped),
            ("SHELVED", S::Stopped),
            ("SHELVED_OFFLOADED", S::Stopped),
            ("SHUTOFF", S::Stopped),
            ("SOFT_DELETED", S::Deleted),
            ("SUSPENDED", S::Stopped),
            ("UNKNOWN", S::Unknown),
            ("VERIFY_RESIZE", S::Active),
            (
                "NEW_IN_A_LATER_RELEASE",
                S::Unexpected("NEW_IN_A_LATER_RELEASE".into()),
            ),
        ];
        for (status, expected) in table {
            assert_eq!(state(status, None), expected, "{status}");
            assert_eq!(state(status, Some("deleting")), S::Deleted, "{status}");
        }
        assert_eq!(state("ACTIVE", Some("rebooting")), S::Active);
    }

    #[test]
    fn every_refusal_has_its_kind() {
        let nova =
            |kind: &str, text: &str| format!(r#"{{"{kind}": {{"code": 0, "message": "{text}"}}}}"#);
        let full = nova(
            "forbidden",
            "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances",
        );
        let neutron = r#"{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port'].", "detail": ""}}"#;
        let cinder = nova(
            "overLimit",
            "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota.",
        );
        for (status, body, kind) in [
            (
                400,
                nova("badRequest", "Invalid key_name provided."),
                ErrorKind::InvalidRequest,
            ),
            (
                401,
                nova(
                    "error",
                    "The request you have made requires authentication.",
                ),
                ErrorKind::Unauthenticated,
            ),
            (403, full, ErrorKind::QuotaExceeded),
            (
                403,
                nova("forbidden", "Policy doesn't allow this"),
                ErrorKind::PermissionDenied,
            ),
            (
                404,
                nova("itemNotFound", "Instance x could not be found."),
                ErrorKind::NotFound,
            ),
            (
                409,
                nova("conflictingRequest", "Port x is still in use."),
                ErrorKind::AlreadyExists,
            ),
            (409, neutron.to_owned(), ErrorKind::QuotaExceeded),
            (413, cinder, ErrorKind::QuotaExceeded),
            (
                413,
                nova("overLimit", "This request was rate-limited."),
                ErrorKind::RateLimited,
            ),
            (429, String::new(), ErrorKind::RateLimited),
            (
                500,
                nova("computeFault", "Unexpected API Error."),
                ErrorKind::Unexpected,
            ),
            (503, "<html>busy</html>".to_owned(), ErrorKind::Unreachable),
            (302, String::new(), ErrorKind::BadAnswer),
        ] {
            let error = classify(status, None, &body, Changes::Nothing);
            assert_eq!(error.kind(), kind, "{status} {body}");
            assert_eq!(error.effect(), Effect::None);
        }
        let late = classify(503, Some(Duration::from_secs(7)), "", Changes::Something);
        assert_eq!(
            (late.retry(), late.effect()),
            (Retry::After(Duration::from_secs(7)), Effect::Unknown)
        );
    }

    #[test]
    fn faults_of_servers_are_told_apart() {
        for (code, text, kind) in [
            (
                500,
                "No valid host was found. There are not enough hosts available.",
                ErrorKind::NoCapacity,
            ),
            (
                500,
                "Exceeded maximum number of retries. Exhausted all hosts available",
                ErrorKind::NoCapacity,
            ),
            (403, "Quota exceeded for cores", ErrorKind::QuotaExceeded),
            (404, "Image 1 could not be found.", ErrorKind::NotFound),
            (500, "Build of instance x aborted", ErrorKind::Unexpected),
            (500, "", ErrorKind::Unexpected),
        ] {
            assert_eq!(fault(code, text).kind(), kind, "{text}");
        }
    }

    #[test]
    fn messages_are_found_and_made_fit_for_a_line() {
        assert_eq!(
            message(r#"{"NeutronError": {"message": "a\nb", "type": "X"}}"#),
            "a b"
        );
        assert_eq!(message(r#"{"message": "top"}"#), "top");
        assert_eq!(message("plain"), "plain");
        assert_eq!(message(&"x".repeat(1000)).len(), 300);
    }
}
