//! What an answer that is not a success means.

use reqwest::StatusCode;
use reqwest::header::HeaderName;
use runner_manager_core::{Error, ErrorKind, Secret};
use serde::Deserialize;

use crate::answer::Answer;
use crate::call::Call;
use crate::retry::{Failure, Fault};
use crate::text::excerpt;

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    message: String,
    /// The class of the Actions service's errors.
    #[serde(default, rename = "typeName")]
    class: String,
}

/// What the Actions service says with the class of an error, whatever the status.
fn by_class(answer: &Answer, said: &str) -> Option<Error> {
    let body: Message = serde_json::from_slice(&answer.body).ok()?;
    let is = |name: &str| body.class.contains(name);
    let (kind, what) = if is("JobStillRunningException") {
        (
            ErrorKind::Busy,
            "GitHub does not remove the runner while it has a job",
        )
    } else if is("AgentNotFoundException") {
        (ErrorKind::NotFound, "GitHub does not know the runner")
    } else if is("AgentExistsException") || is("RunnerScaleSetExistsException") {
        (ErrorKind::AlreadyExists, "GitHub has this already")
    } else {
        return None;
    };
    Some(Error::new(kind, format!("{what}{said}")))
}

/// The failure that an answer stands for, or none for a success.
pub(crate) fn classify(call: &Call, answer: &Answer, known: &[&Secret]) -> Option<Failure> {
    let status = answer.status;
    let api = answer.may_be_api();
    if status.is_success() && api {
        return None;
    }
    if status.is_server_error() {
        let error = Error::new(
            ErrorKind::Unreachable,
            format!(
                "GitHub failed with status {}{}; look at https://www.githubstatus.com or at the server's own health",
                status.as_u16(),
                said(answer, known)
            ),
        );
        return Some(Failure {
            error: error.with_context("request", &answer.label),
            fault: Fault::Passing,
        });
    }
    let error = if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        Error::new(
            ErrorKind::Unauthenticated,
            "the proxy wants credentials; put them into the proxy's URL",
        )
    } else if api {
        refusal(call, answer, known)
    } else {
        foreign(answer, known)
    };
    Some(Failure::lasting(
        error.with_context("request", &answer.label),
    ))
}

/// An error for an answer that does not come from GitHub's API.
fn foreign(answer: &Answer, known: &[&Secret]) -> Error {
    let text = String::from_utf8_lossy(&answer.body);
    // A success may hold a secret, unless it is plainly a page.
    let begin = if answer.status.is_success() && !text.trim_start().starts_with('<') {
        String::new()
    } else {
        format!(", beginning `{}`", excerpt(&text, 120, known))
    };
    Error::new(
        ErrorKind::BadAnswer,
        format!(
            "got status {} with {} instead of JSON{begin}; check that `url` is GitHub's base address and that no proxy or login page stands between",
            answer.status.as_u16(),
            answer.content_type(),
        ),
    )
}

fn refusal(call: &Call, answer: &Answer, known: &[&Secret]) -> Error {
    let said = said(answer, known);
    let needs = call.needs;
    if let Some(error) = by_class(answer, &said) {
        return error;
    }
    match answer.status.as_u16() {
        401 => Error::new(
            ErrorKind::Unauthenticated,
            format!(
                "GitHub does not take the credential{said}; it is wrong, expired or revoked, or this machine's clock is off"
            ),
        ),
        403 => {
            let sso = answer
                .headers
                .contains_key(HeaderName::from_static("x-github-sso"));
            let advice = if sso {
                "authorize the token for the organization's single sign-on".to_owned()
            } else if is_archived(answer) {
                "the repository is archived, and runs no jobs: unarchive it, or take it out of the configuration".to_owned()
            } else {
                format!("the credential needs {needs}")
            };
            Error::new(
                ErrorKind::PermissionDenied,
                format!("GitHub forbids this{said}; {advice}"),
            )
        }
        404 | 410 => Error::new(
            ErrorKind::NotFound,
            format!(
                "GitHub does not find this{said}; it answers so too when the credential may not see it: check the name, and that the credential has {needs}"
            ),
        ),
        409 => Error::new(
            ErrorKind::AlreadyExists,
            format!("GitHub has this already{said}"),
        ),
        300..=399 => Error::new(
            ErrorKind::BadAnswer,
            format!(
                "got a redirect (status {}) that is not followed{}; if the scope or host was renamed, put the new name into the configuration",
                answer.status.as_u16(),
                crate::rest::target(answer)
            ),
        ),
        400 | 405..=499 => Error::new(
            ErrorKind::InvalidRequest,
            format!(
                "GitHub refuses the request with status {}{said}",
                answer.status.as_u16()
            ),
        ),
        other => Error::new(
            ErrorKind::Unexpected,
            format!("GitHub answered with status {other}{said}"),
        ),
    }
}

/// Whether GitHub refuses because a repository is archived. Its text is the only marker of that,
/// and decides about the advice alone.
fn is_archived(answer: &Answer) -> bool {
    serde_json::from_slice::<Message>(&answer.body).is_ok_and(|body| {
        let message = body.message.to_ascii_lowercase();
        message.contains("archived")
    })
}

/// GitHub's own message, where there is one.
fn said(answer: &Answer, known: &[&Secret]) -> String {
    match serde_json::from_slice::<Message>(&answer.body) {
        Ok(body) if !body.message.is_empty() => {
            format!(": \"{}\"", excerpt(&body.message, 300, known))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;
    use url::Url;

    use super::*;

    fn look(status: u16, kind: &'static str, body: &str) -> Option<Failure> {
        let url = Url::parse("https://api.github.com/orgs/o").unwrap();
        let call = Call::get(url, "the permission `x`");
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        let answer = Answer {
            label: call.label(),
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.into(),
        };
        classify(&call, &answer, &[&Secret::new("hunter2")])
    }

    #[test]
    fn each_status_has_its_kind() {
        use ErrorKind as K;
        let json = "application/json; charset=utf-8";
        let body = r#"{"message":"no hunter2"}"#;
        for (status, kind, fault) in [
            (301, K::BadAnswer, Fault::Lasting),
            (400, K::InvalidRequest, Fault::Lasting),
            (401, K::Unauthenticated, Fault::Lasting),
            (403, K::PermissionDenied, Fault::Lasting),
            (404, K::NotFound, Fault::Lasting),
            (407, K::Unauthenticated, Fault::Lasting),
            (409, K::AlreadyExists, Fault::Lasting),
            (410, K::NotFound, Fault::Lasting),
            (422, K::InvalidRequest, Fault::Lasting),
            (500, K::Unreachable, Fault::Passing),
            (502, K::Unreachable, Fault::Passing),
            (503, K::Unreachable, Fault::Passing),
        ] {
            let failure = look(status, json, body).unwrap();
            assert_eq!(
                (failure.error.kind(), failure.fault),
                (kind, fault),
                "{status}"
            );
            let text = failure.error.to_string();
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("GET https://api.github.com/orgs/o"), "{text}");
        }
        assert!(look(200, json, "{}").is_none());
        assert!(look(204, "text/plain", "").is_none());
    }

    #[test]
    fn the_class_of_an_error_goes_before_its_status() {
        use ErrorKind as K;
        let json = "application/json";
        for (class, kind) in [
            ("JobStillRunningException", K::Busy),
            ("AgentNotFoundException", K::NotFound),
            ("AgentExistsException", K::AlreadyExists),
            ("RunnerScaleSetExistsException", K::AlreadyExists),
            ("OtherException", K::InvalidRequest),
        ] {
            let body = format!(
                r#"{{"typeName":"GitHub.{class}, GitHub.Services","message":"about hunter2"}}"#
            );
            let error = look(400, json, &body).unwrap().error;
            assert_eq!(error.kind(), kind, "{class}");
            assert!(error.to_string().contains("about ***"), "{error}");
        }
    }

    #[test]
    fn an_archived_repository_is_named_as_such() {
        let body = r#"{"message":"Repository was archived so is read-only."}"#;
        let error = look(403, "application/json", body).unwrap().error;
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let text = error.to_string();
        assert!(
            text.contains("unarchive it") && !text.contains("needs"),
            "{text}"
        );
    }

    #[test]
    fn pages_of_others_are_not_taken_for_answers() {
        for status in [200, 201, 302, 403, 404] {
            let failure = look(status, "text/html", "<html>Sign in, hunter2").unwrap();
            assert_eq!(failure.error.kind(), ErrorKind::BadAnswer, "{status}");
            let text = failure.error.to_string();
            assert!(
                text.contains("text/html") && text.contains("Sign in, ***"),
                "{text}"
            );
        }
        let plain = look(201, "text/plain", "AAAA-a-secret").unwrap();
        assert!(!plain.error.to_string().contains("a-secret"));
    }
}
