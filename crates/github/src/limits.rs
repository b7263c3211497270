//! GitHub's rate limits: what is left, and when calls are taken again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{HeaderName, RETRY_AFTER};
use runner_manager_core::{Error, ErrorKind, Result, Retry};
use tokio::time::Instant;

use crate::answer::{Answer, http_date, until};
use crate::auth::{Identity, Left};
use crate::model::RateLimit;

/// The wait that GitHub asks for where its answer names none.
const UNNAMED_WAIT: Duration = Duration::from_secs(60);
/// The longest wait that is believed: a window is one hour.
const LONGEST_WAIT: Duration = Duration::from_secs(3_660);

/// The limits of every credential in use: each has a budget of its own.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<HashMap<Identity, Budget>>);

#[derive(Debug, Default)]
struct Budget {
    last: Option<RateLimit>,
    closed_until: Option<Instant>,
}

impl Limits {
    /// Refuses while GitHub takes no calls of this credential.
    pub(crate) fn admit(&self, identity: Identity, label: &str) -> Result<()> {
        let budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = budgets
            .get(&identity)
            .and_then(|budget| budget.closed_until);
        match closed.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(wait) if !wait.is_zero() => Err(limited(wait)
                .with_context("request", label)
                .with_context("sent", "no")),
            _ => Ok(()),
        }
    }

    /// Learns from an answer. Gives the wait when the answer is a refusal for too many calls.
    pub(crate) fn learn(&self, identity: Identity, answer: &Answer) -> Option<Duration> {
        let now = answer.date().unwrap_or_else(Timestamp::now);
        let limit = read(answer);
        let refused = refusal(answer, limit, now);
        let used_up = limit
            .filter(|limit| limit.remaining == 0)
            .map(|limit| until(limit.reset_at, now).min(LONGEST_WAIT));
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets.entry(identity).or_default();
        budget.last = limit.or(budget.last);
        if let Some(wait) = refused.or(used_up) {
            let closed = Instant::now() + wait;
            budget.closed_until = budget.closed_until.max(Some(closed));
        }
        refused
    }

    /// What is left of a budget: nothing while GitHub takes no calls, and all of it while
    /// nothing is known.
    pub(crate) fn left(&self, identity: Identity) -> Left {
        let budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets.get(&identity);
        let last = budget.and_then(|budget| budget.last);
        let closed = budget.and_then(|budget| budget.closed_until);
        let is_closed = closed.is_some_and(|until| until > Instant::now());
        match last {
            _ if is_closed => Left {
                remaining: 0,
                limit: last.map_or(1, |last| last.limit),
            },
            Some(last) => Left {
                remaining: last.remaining,
                limit: last.limit,
            },
            None => Left::FULL,
        }
    }

    /// The tightest of the last known budgets.
    pub(crate) fn tightest(&self) -> Option<RateLimit> {
        let budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        budgets
            .values()
            .filter_map(|budget| budget.last)
            .min_by_key(|limit| limit.remaining)
    }
}

/// The error for too many calls.
pub(crate) fn limited(wait: Duration) -> Error {
    // Rounded up: a caller that waits this long must not come too early.
    let wait = Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    Error::new(
        ErrorKind::RateLimited,
        format!(
            "GitHub's rate limit is reached, it takes calls again in {} s; use a GitHub App or fewer, larger pools if this comes often",
            wait.as_secs()
        ),
    )
    .with_retry(Retry::After(wait))
}

fn read(answer: &Answer) -> Option<RateLimit> {
    let number = |name: &'static str| -> Option<u64> {
        answer
            .header(HeaderName::from_static(name))?
            .trim()
            .parse()
            .ok()
    };
    Some(RateLimit {
        limit: number("x-ratelimit-limit")?,
        remaining: number("x-ratelimit-remaining")?,
        reset_at: Timestamp::from_second(i64::try_from(number("x-ratelimit-reset")?).ok()?).ok()?,
    })
}

/// How long to wait, when the answer says that there were too many calls.
fn refusal(answer: &Answer, limit: Option<RateLimit>, now: Timestamp) -> Option<Duration> {
    let status = answer.status;
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let asked = answer.header(RETRY_AFTER).map(|text| {
        let seconds = text.trim().parse().ok().map(Duration::from_secs);
        seconds
            .or_else(|| http_date(text).map(|then| until(then, now)))
            .unwrap_or(UNNAMED_WAIT)
    });
    let used_up = limit
        .filter(|limit| limit.remaining == 0)
        .map(|limit| until(limit.reset_at, now));
    let told = status == StatusCode::TOO_MANY_REQUESTS
        || String::from_utf8_lossy(&answer.body)
            .to_ascii_lowercase()
            .contains("secondary rate limit");
    asked
        .or(used_up)
        .or(told.then_some(UNNAMED_WAIT))
        .map(|wait| wait.clamp(Duration::from_secs(1), LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Answer {
            label: "GET x".into(),
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: body.into(),
        }
    }

    #[test]
    fn refusals_are_told_from_other_forbiddens() {
        let date = ("date", "Tue, 24 Nov 2026 09:00:00 GMT");
        let reset = ("x-ratelimit-reset", "1795511100");
        let left = |n| {
            [
                ("x-ratelimit-limit", "60"),
                ("x-ratelimit-remaining", n),
                reset,
                date,
            ]
        };
        for (status, headers, body, wait) in [
            (403, vec![("retry-after", "7")], "", Some(7)),
            (429, vec![("retry-after", "0")], "", Some(1)),
            (
                429,
                vec![date, ("retry-after", "Tue, 24 Nov 2026 09:00:09 GMT")],
                "",
                Some(9),
            ),
            (429, vec![("retry-after", "soon")], "", Some(60)),
            (429, vec![], "", Some(60)),
            (
                403,
                vec![],
                "You have exceeded a secondary rate limit",
                Some(60),
            ),
            (403, left("0").to_vec(), "", Some(300)),
            (403, left("5").to_vec(), "Resource not accessible", None),
            (403, vec![], "Resource not accessible", None),
            (200, left("0").to_vec(), "", None),
        ] {
            let answer = answer(status, &headers, body);
            let got = Limits::default().learn(Identity::Token, &answer);
            assert_eq!(
                got.map(|wait| wait.as_secs()),
                wait,
                "{status} {headers:?} {body}"
            );
        }
    }

    #[test]
    fn a_used_up_budget_closes_for_its_own_credential_only() {
        let limits = Limits::default();
        limits.learn(
            Identity::Installation(1),
            &answer(429, &[("retry-after", "50")], ""),
        );
        let error = limits
            .admit(Identity::Installation(1), "GET x")
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RateLimited);
        assert!(matches!(error.retry(), Retry::After(wait) if wait <= Duration::from_secs(50)));
        assert!(limits.admit(Identity::Installation(2), "GET x").is_ok());
    }
}
