//! Faults on demand.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde::{Deserialize, Serialize};

/// The most rules that stand at once.
const MAX_RULES: usize = 256;
/// The largest answer that gets a byte order mark.
const MAX_MARKED: usize = 16 * 1024 * 1024;
/// The most that an answer is delayed.
const MAX_LATENCY: Duration = Duration::from_secs(60);

/// What happens to a request that a rule matches.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultAction {
    /// The request has no effect and gets this answer.
    Status {
        /// The status.
        status: u16,
        /// More headers, such as `retry-after`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body; GitHub's error object when absent.
        #[serde(default)]
        body: Option<String>,
    },
    /// The request has no effect and gets a page of HTML, as from a proxy or a maintenance page.
    Html {
        /// The status.
        status: u16,
    },
    /// The request is handled after this many milliseconds, at most a minute.
    Latency(u64),
    /// The request has no effect and the connection closes without an answer.
    DropConnection,
    /// The request is handled and the connection closes without an answer.
    DropAfterEffect,
    /// The request is handled, and its answer begins with a byte order mark.
    ByteOrderMark,
}

/// A fault for the next matching requests. `/_sim` is never hit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The method; any when absent.
    #[serde(default)]
    pub method: Option<String>,
    /// What the path with its query contains; empty for any.
    #[serde(default)]
    pub path_contains: String,
    /// How many requests it hits; `u32::MAX` stands for all.
    pub times: u32,
    /// What happens to them.
    pub action: FaultAction,
}

impl FaultRule {
    /// A rule for the next `times` requests of any method whose path contains this.
    #[must_use]
    pub fn new(path_contains: &str, times: u32, action: FaultAction) -> Self {
        Self {
            method: None,
            path_contains: path_contains.to_owned(),
            times,
            action,
        }
    }

    /// The same rule for one method only.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_ascii_uppercase());
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        let same = |wanted: &String| wanted.eq_ignore_ascii_case(method);
        self.times > 0
            && !path.starts_with("/_sim")
            && self.method.as_ref().is_none_or(same)
            && path.contains(&self.path_contains)
    }
}

impl FaultAction {
    /// An answer with this status and GitHub's error object.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            headers: BTreeMap::new(),
            body: None,
        }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Status { headers, .. } = &mut self {
            headers.insert(name.to_owned(), value.to_owned());
        }
        self
    }
}

/// The rules that stand, oldest first.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<FaultRule>>);

impl Faults {
    pub(crate) fn add(&self, rule: FaultRule) {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.retain(|rule| rule.times > 0);
        if rules.len() < MAX_RULES {
            rules.push(rule);
        }
    }

    pub(crate) fn clear(&self) {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.clear();
    }

    /// Uses up one hit of the oldest rule that matches.
    pub(crate) fn take(&self, method: &str, path: &str) -> Option<FaultAction> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|rule| rule.matches(method, path))?;
        if rule.times != u32::MAX {
            rule.times -= 1;
        }
        Some(rule.action.clone())
    }
}

/// How long a latency fault really waits.
pub(crate) fn latency(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds).min(MAX_LATENCY)
}

/// The answer of a status fault.
pub(crate) fn answer(
    status: u16,
    headers: &BTreeMap<String, String>,
    body: Option<&String>,
) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let object = || crate::api::reply::error_body(status, "a fault that the test asked for");
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let body = body.map_or_else(|| object().to_string(), Clone::clone);
    response
        .body(Body::from(body))
        .unwrap_or_else(|_| Response::new(Body::from("a fault with an invalid header")))
}

/// The same answer behind a byte order mark, which the Actions service sends now and then.
pub(crate) async fn marked(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, MAX_MARKED)
        .await
        .unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    let marked = [b"\xef\xbb\xbf".as_slice(), &body].concat();
    Response::from_parts(parts, Body::from(marked))
}

/// The answer of an HTML fault.
pub(crate) fn html(status: u16) -> Response<Body> {
    let mut response = Response::new(Body::from(
        "<!DOCTYPE html><html><head><title>Unicorn!</title></head><body>Sorry.</body></html>",
    ));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let html = axum::http::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_used_up_in_order_and_spare_the_control_path() {
        let faults = Faults::default();
        faults.add(FaultRule::new("/runners", 1, FaultAction::DropConnection).method("post"));
        faults.add(FaultRule::new("", 1, FaultAction::Latency(5)));
        assert!(faults.take("POST", "/_sim/runners").is_none());
        let first = faults.take("GET", "/runners");
        assert!(matches!(first, Some(FaultAction::Latency(5))), "{first:?}");
        let second = faults.take("POST", "/runners");
        assert!(matches!(second, Some(FaultAction::DropConnection)));
        assert!(faults.take("POST", "/runners").is_none());
    }
}
