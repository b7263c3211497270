//! Faults on demand.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::environment::Rng;

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
    /// The request is handled, and parts of its JSON answer are others: odd records, a total that
    /// is off, a field that is missing. The answer has no `ETag`.
    Edit(Vec<JsonEdit>),
    /// The request has no effect and gets 429 with a `retry-after` between these, in seconds.
    Throttled {
        /// The shortest wait.
        least: u64,
        /// The longest wait.
        most: u64,
    },
    /// All requests get 502 and have no effect, for a time between these, in seconds.
    Outage {
        /// The shortest time.
        least: u64,
        /// The longest time.
        most: u64,
    },
    /// The Actions service takes the request's token for one that is not good any more.
    TokenRefused,
    /// The session of a scale set's queue that the request names ends before it is handled.
    EndSession,
}

/// A change of a JSON answer. What its pointer does not find stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonEdit {
    /// Which part, as a JSON pointer such as `/jobs/0/created_at`.
    pub at: String,
    /// What stands there then.
    #[serde(default)]
    pub value: Value,
    /// Whether the part is missing then.
    #[serde(default)]
    pub remove: bool,
}

impl JsonEdit {
    /// Another value for a part.
    #[must_use]
    pub fn set(at: &str, value: Value) -> Self {
        Self {
            at: at.to_owned(),
            value,
            remove: false,
        }
    }

    /// A part that is missing.
    #[must_use]
    pub fn remove(at: &str) -> Self {
        Self {
            at: at.to_owned(),
            value: Value::Null,
            remove: true,
        }
    }

    fn apply(&self, answer: &mut Value) {
        let Some((parent, field)) = self.at.rsplit_once('/') else {
            return;
        };
        match answer.pointer_mut(parent) {
            Some(Value::Object(fields)) if self.remove => {
                fields.remove(field);
            }
            Some(Value::Object(fields)) => {
                fields.insert(field.to_owned(), self.value.clone());
            }
            Some(Value::Array(items)) => {
                let Some(place) = field.parse().ok().filter(|place| *place < items.len()) else {
                    return;
                };
                if self.remove {
                    items.remove(place);
                } else {
                    items[place] = self.value.clone();
                }
            }
            _ => {}
        }
    }
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
    /// How likely a matching request is hit, from 0 to 1; it always is when absent.
    #[serde(default)]
    pub likelihood: Option<f64>,
}

/// How webhook deliveries go wrong, each likelihood from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DeliveryFaults {
    /// A delivery never arrives. GitHub counts it as failed.
    pub lost: f64,
    /// A delivery that is not lost arrives twice.
    pub duplicated: f64,
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
            likelihood: None,
        }
    }

    /// The same rule for one method only.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = Some(method.to_ascii_uppercase());
        self
    }

    /// The same rule, by chance only.
    #[must_use]
    pub fn likelihood(mut self, likelihood: f64) -> Self {
        self.likelihood = Some(likelihood);
        self
    }

    /// Whether its likelihood is one.
    pub(crate) fn is_valid(&self) -> bool {
        self.likelihood.is_none_or(|l| (0.0..=1.0).contains(&l))
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

/// What goes wrong now.
pub(crate) struct Faults {
    standing: Mutex<Standing>,
    hits: AtomicU64,
    rng: Rng,
}

#[derive(Default)]
struct Standing {
    /// Oldest first.
    rules: Vec<FaultRule>,
    deliveries: DeliveryFaults,
    outage_until: Option<Instant>,
}

impl Faults {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            standing: Mutex::default(),
            hits: AtomicU64::new(0),
            rng,
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, rule: FaultRule) {
        let mut standing = self.standing();
        standing.rules.retain(|rule| rule.times > 0);
        if standing.rules.len() < MAX_RULES {
            standing.rules.push(rule);
        }
    }

    pub(crate) fn set_deliveries(&self, faults: DeliveryFaults) {
        self.standing().deliveries = faults;
    }

    pub(crate) fn clear(&self) {
        *self.standing() = Standing::default();
    }

    /// How many requests and deliveries were hit.
    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Uses up one hit of the oldest rule that matches and strikes.
    pub(crate) fn take(&self, method: &str, path: &str) -> Option<FaultAction> {
        let mut standing = self.standing();
        let now = Instant::now();
        let down = standing.outage_until.is_some_and(|until| now < until);
        if down && !path.starts_with("/_sim") {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(FaultAction::status(502));
        }
        let strikes = |rule: &&mut FaultRule| {
            rule.matches(method, path) && rule.likelihood.is_none_or(|l| self.rng.strikes(l))
        };
        let rule = standing.rules.iter_mut().find(strikes)?;
        if rule.times != u32::MAX {
            rule.times -= 1;
        }
        self.hits.fetch_add(1, Ordering::Relaxed);
        let action = rule.action.clone();
        Some(match action {
            FaultAction::Outage { least, most } => {
                let length = Duration::from_secs(self.rng.between(least, most));
                standing.outage_until = now.checked_add(length);
                FaultAction::status(502)
            }
            FaultAction::Throttled { least, most } => {
                let wait = self.rng.between(least, most);
                FaultAction::status(429).header("retry-after", &wait.to_string())
            }
            action => action,
        })
    }

    /// How often a delivery arrives.
    pub(crate) fn arrivals(&self) -> usize {
        let faults = self.standing().deliveries;
        let arrivals = if self.rng.strikes(faults.lost) {
            0
        } else if self.rng.strikes(faults.duplicated) {
            2
        } else {
            1
        };
        self.hits
            .fetch_add(u64::from(arrivals != 1), Ordering::Relaxed);
        arrivals
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

/// The same answer with other parts.
pub(crate) async fn edited(response: Response<Body>, edits: &[JsonEdit]) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, MAX_MARKED)
        .await
        .unwrap_or_default();
    parts.headers.remove(header::ETAG);
    parts.headers.remove(header::CONTENT_LENGTH);
    let Ok(mut answer) = serde_json::from_slice::<Value>(&body) else {
        return Response::from_parts(parts, Body::from(body));
    };
    for edit in edits {
        edit.apply(&mut answer);
    }
    Response::from_parts(parts, Body::from(answer.to_string()))
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
        let faults = Faults::new(Rng::new(1));
        faults.add(FaultRule::new("/runners", 1, FaultAction::DropConnection).method("post"));
        faults.add(FaultRule::new("", 1, FaultAction::Latency(5)));
        assert!(faults.take("POST", "/_sim/runners").is_none());
        let first = faults.take("GET", "/runners");
        assert!(matches!(first, Some(FaultAction::Latency(5))), "{first:?}");
        let second = faults.take("POST", "/runners");
        assert!(matches!(second, Some(FaultAction::DropConnection)));
        assert!(faults.take("POST", "/runners").is_none());
        assert_eq!(faults.hits(), 2);
    }

    #[tokio::test]
    async fn an_answer_is_edited_where_a_pointer_says() {
        let body = r#"{"jobs":[{"id":1,"name":"a"},{"id":2}],"total_count":2}"#;
        let edits = [
            JsonEdit::set("/jobs/0/name", Value::Null),
            JsonEdit::remove("/jobs/0/id"),
            JsonEdit::set("/jobs/1", "odd".into()),
            JsonEdit::set("/jobs/7", "nowhere".into()),
            JsonEdit::remove("/total_count"),
        ];
        let edited = edited(Response::new(Body::from(body)), &edits).await;
        let edited = axum::body::to_bytes(edited.into_body(), 1_000).await;
        assert_eq!(&edited.unwrap()[..], br#"{"jobs":[{"name":null},"odd"]}"#);
    }

    #[test]
    fn a_rule_with_a_likelihood_strikes_now_and_then() {
        let faults = Faults::new(Rng::new(1));
        let rule = FaultRule::new("", u32::MAX, FaultAction::DropConnection);
        faults.add(rule.likelihood(0.25));
        let hits = (0..1_000).filter(|_| faults.take("GET", "/").is_some());
        let hits = hits.count();
        assert!((200..300).contains(&hits), "{hits}");
        assert!(
            !FaultRule::new("", 1, FaultAction::EndSession)
                .likelihood(1.5)
                .is_valid()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_lasts_and_ends() {
        let faults = Faults::new(Rng::new(1));
        let outage = FaultAction::Outage {
            least: 60,
            most: 60,
        };
        faults.add(FaultRule::new("/runs", 1, outage));
        assert!(faults.take("GET", "/runners").is_none());
        for path in ["/runs", "/runners"] {
            let hit = faults.take("GET", path);
            assert!(matches!(hit, Some(FaultAction::Status { status: 502, .. })));
        }
        assert!(faults.take("GET", "/_sim/jobs").is_none());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(faults.take("GET", "/runners").is_none());
    }

    #[test]
    fn deliveries_are_lost_and_doubled_by_chance() {
        let faults = Faults::new(Rng::new(1));
        assert_eq!(faults.arrivals(), 1);
        faults.set_deliveries(DeliveryFaults {
            lost: 0.5,
            duplicated: 0.5,
        });
        let arrivals: Vec<usize> = (0..100).map(|_| faults.arrivals()).collect();
        assert!(
            (0..3).all(|times| arrivals.contains(&times)),
            "{arrivals:?}"
        );
        faults.clear();
        assert!((0..100).all(|_| faults.arrivals() == 1));
    }
}
