//! GitHub's rate limits: what is left, and when calls are taken again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{HeaderName, RETRY_AFTER};
use runner_manager_core::{Error, ErrorKind, Result, Retry};
use tokio::time::Instant;

use crate::answer::{Answer, http_date, until};
use crate::auth::{Identity, Left};
use crate::call::Call;
use crate::model::RateLimit;

/// The wait that GitHub asks for where its answer names none.
const UNNAMED_WAIT: Duration = Duration::from_secs(60);
/// The longest wait that is believed: a window is one hour.
const LONGEST_WAIT: Duration = Duration::from_secs(3_660);

/// What a call counts against where no answer has said so yet.
const CORE: &str = "core";
/// How many kinds of calls, and budgets, are remembered: GitHub has about a dozen.
const MAX_KNOWN: usize = 1_024;

/// How many reads a second a credential may send in the long run. GitHub takes 900 points a minute,
/// a read is one. Changes are five, but they are not counted: a burst of launches must not blind the
/// polls for minutes.
const READS_PER_SECOND: f64 = 10.0;
/// How many reads may come at once on top of that, within the same minute.
const BURST: f64 = 200.0;

/// The limits of every credential in use: each has a budget of its own for each of GitHub's
/// resources, as `x-ratelimit-resource` names them.
#[derive(Debug, Default)]
pub(crate) struct Limits(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    budgets: HashMap<(Identity, String), Budget>,
    /// Until when GitHub takes no calls of a credential at all.
    closed: HashMap<Identity, Instant>,
    /// The resource that a kind of call counts against.
    resources: HashMap<String, String>,
    /// The reads that were sent and are not made up for yet, and as of when.
    spent: HashMap<Identity, (f64, Instant)>,
}

#[derive(Debug, Default)]
struct Budget {
    last: Option<RateLimit>,
    closed_until: Option<Instant>,
}

impl Known {
    fn resource(&self, kind: &str) -> String {
        self.resources
            .get(kind)
            .map_or_else(|| CORE.to_owned(), Clone::clone)
    }

    /// Until when GitHub takes no such call of this credential.
    fn closed_until(&self, identity: Identity, resource: &str) -> Option<Instant> {
        let budget = self.budgets.get(&(identity, resource.to_owned()));
        let of_resource = budget.and_then(|budget| budget.closed_until);
        of_resource.max(self.closed.get(&identity).copied())
    }

    fn debt(&self, identity: Identity) -> f64 {
        self.spent.get(&identity).map_or(0.0, |(reads, as_of)| {
            (reads - as_of.elapsed().as_secs_f64() * READS_PER_SECOND).max(0.0)
        })
    }
}

impl Limits {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses while GitHub takes no calls of this kind of this credential.
    pub(crate) fn admit(&self, identity: Identity, call: &Call) -> Result<()> {
        let known = self.known();
        let closed = known.closed_until(identity, &known.resource(&call.kind()));
        match closed.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(wait) if !wait.is_zero() => Err(limited(wait)
                .with_context("request", call.label())
                .with_context("sent", "no")),
            _ => Ok(()),
        }
    }

    /// Counts a read that is sent now.
    pub(crate) fn spend_read(&self, identity: Identity) {
        let mut known = self.known();
        let debt = known.debt(identity) + 1.0;
        known.spent.insert(identity, (debt, Instant::now()));
    }

    /// How many reads may be sent at once now, so that the points of a minute are kept.
    pub(crate) fn reads_left(&self, identity: Identity) -> usize {
        let debt = self.known().debt(identity);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between zero and the burst"
        )]
        let left = (BURST - debt).max(0.0) as usize;
        left
    }

    /// How long until half of a burst may be sent at once.
    pub(crate) fn pause(&self, identity: Identity) -> Duration {
        let over = self.known().debt(identity) - BURST / 2.0;
        Duration::from_secs_f64(over.max(0.0) / READS_PER_SECOND)
    }

    /// Learns from the answer to a call. Gives the wait when the answer is a refusal for too many
    /// calls.
    pub(crate) fn learn(
        &self,
        identity: Identity,
        kind: &str,
        answer: &Answer,
    ) -> Option<Duration> {
        let now = answer.date().unwrap_or_else(Timestamp::now);
        let limit = read(answer);
        let used_up = limit
            .filter(|limit| limit.remaining == 0)
            .map(|limit| believed(until(limit.reset_at, now)));
        let refused = refusal(answer, used_up, now);
        let mut known = self.known();
        let named = answer.header(HeaderName::from_static("x-ratelimit-resource"));
        if let Some(named) = named
            && known.resources.len() < MAX_KNOWN
        {
            known.resources.insert(kind.to_owned(), named.to_owned());
        }
        let key = (identity, known.resource(kind));
        let closes = refused.or(used_up).map(|wait| Instant::now() + wait);
        if limit.is_some() && (known.budgets.contains_key(&key) || known.budgets.len() < MAX_KNOWN)
        {
            let budget = known.budgets.entry(key).or_default();
            budget.last = limit;
            if used_up.is_some() {
                budget.closed_until = budget.closed_until.max(closes);
                return refused;
            }
        }
        // A refusal that is not for a budget that is used up concerns all calls of the credential.
        if let Some(closes) = closes {
            let closed = known.closed.entry(identity).or_insert(closes);
            *closed = (*closed).max(closes);
        }
        refused
    }

    /// What is left of the budget for calls of this kind: nothing while GitHub takes none, and all
    /// of it while nothing is known.
    pub(crate) fn left(&self, identity: Identity, kind: &str) -> Left {
        let known = self.known();
        let resource = known.resource(kind);
        let closed = known.closed_until(identity, &resource);
        let is_closed = closed.is_some_and(|until| until > Instant::now());
        let budget = known.budgets.get(&(identity, resource));
        match budget.and_then(|budget| budget.last) {
            last if is_closed => Left {
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

    /// The tightest of the last known budgets for calls of the API at large.
    pub(crate) fn tightest(&self) -> Option<RateLimit> {
        let known = self.known();
        let core = known.budgets.iter().filter(|((_, name), _)| name == CORE);
        core.filter_map(|(_, budget)| budget.last)
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

/// A wait that GitHub may have meant. No window is longer than an hour, so that a longer wait is
/// somebody's mistake.
fn believed(wait: Duration) -> Duration {
    if wait > LONGEST_WAIT {
        return UNNAMED_WAIT;
    }
    wait.max(Duration::from_secs(1))
}

/// What GitHub says in the body when it refuses for too many calls. These texts are its only marker
/// in answers that have neither `retry-after` nor `x-ratelimit-remaining: 0`, and their status is
/// that of a missing permission.
const REFUSALS: [&str; 3] = [
    "api rate limit exceeded",
    "secondary rate limit",
    "abuse detection",
];

/// How long to wait, when the answer says that there were too many calls; `used_up` is the wait for
/// a budget of which nothing is left.
fn refusal(answer: &Answer, used_up: Option<Duration>, now: Timestamp) -> Option<Duration> {
    let status = answer.status;
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let asked = answer.header(RETRY_AFTER).map(|text| {
        let seconds = text.trim().parse().ok().map(Duration::from_secs);
        let wait = seconds.or_else(|| http_date(text).map(|then| until(then, now)));
        wait.map_or(UNNAMED_WAIT, believed)
    });
    let is_told = || {
        let body = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
        status == StatusCode::TOO_MANY_REQUESTS || REFUSALS.iter().any(|text| body.contains(text))
    };
    asked
        .or(used_up)
        .or_else(|| is_told().then_some(UNNAMED_WAIT))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;
    use url::Url;

    use super::*;

    const JIT: &str = "https://api.github.com/orgs/o/actions/runners/generate-jitconfig";

    fn read_call() -> Call {
        let url = "https://api.github.com/repos/o/r/actions/runs/7/jobs";
        Call::get(Url::parse(url).unwrap(), "x")
    }

    fn jit_call() -> Call {
        Call::post(
            Url::parse(JIT).unwrap(),
            None,
            crate::call::Safety::Once,
            "x",
        )
    }

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
            (
                403,
                vec![],
                r#"{"message":"API rate limit exceeded for installation ID 7."}"#,
                Some(60),
            ),
            (
                403,
                vec![],
                "You have triggered an abuse detection mechanism",
                Some(60),
            ),
            (
                429,
                vec![("retry-after", "99999999999999999999")],
                "",
                Some(60),
            ),
            (429, vec![("retry-after", "999999999")], "", Some(60)),
            (429, vec![("retry-after", "-5")], "", Some(60)),
            (
                429,
                vec![date, ("retry-after", "Tue, 24 Nov 2099 09:00:00 GMT")],
                "",
                Some(60),
            ),
            (403, left("0").to_vec(), "", Some(300)),
            (403, left("5").to_vec(), "Resource not accessible", None),
            (403, vec![], "Resource not accessible", None),
            (200, left("0").to_vec(), "", None),
        ] {
            let answer = answer(status, &headers, body);
            let got = Limits::default().learn(Identity::Token, "GET x", &answer);
            assert_eq!(
                got.map(|wait| wait.as_secs()),
                wait,
                "{status} {headers:?} {body}"
            );
        }
    }

    #[test]
    fn a_refusal_closes_for_its_own_credential_only() {
        let limits = Limits::default();
        limits.learn(
            Identity::Installation(1),
            "GET jobs",
            &answer(429, &[("retry-after", "50")], ""),
        );
        for call in [read_call(), jit_call()] {
            let error = limits.admit(Identity::Installation(1), &call).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RateLimited);
            assert!(matches!(error.retry(), Retry::After(wait) if wait <= Duration::from_secs(50)));
            assert!(limits.admit(Identity::Installation(2), &call).is_ok());
        }
    }

    #[test]
    fn a_used_up_budget_closes_for_its_own_resource_only() {
        let limits = Limits::default();
        let told = |resource, remaining| {
            [
                ("x-ratelimit-limit", "15000"),
                ("x-ratelimit-remaining", remaining),
                ("x-ratelimit-reset", "1795511100"),
                ("date", "Tue, 24 Nov 2026 09:00:00 GMT"),
                ("x-ratelimit-resource", resource),
            ]
        };
        let learn = |call: &Call, status, headers: &[(&'static str, &str)]| {
            limits.learn(Identity::Token, &call.kind(), &answer(status, headers, ""))
        };
        learn(&read_call(), 200, &told("core", "14000"));
        let waits = learn(&jit_call(), 403, &told("actions_runner_registration", "0"));
        assert_eq!(waits, Some(Duration::from_secs(300)));
        assert!(limits.admit(Identity::Token, &jit_call()).is_err());
        assert!(limits.admit(Identity::Token, &read_call()).is_ok());
        assert_eq!(limits.tightest().unwrap().remaining, 14_000);
        assert_eq!(limits.left(Identity::Token, "GET jobs").remaining, 14_000);
        assert_eq!(
            limits.left(Identity::Token, &jit_call().kind()).remaining,
            0
        );
    }

    #[tokio::test(start_paused = true)]
    async fn polls_are_held_below_the_points_of_a_minute() {
        let limits = Limits::default();
        let (mut sent, begin) = (0, Instant::now());
        while begin.elapsed() < Duration::from_secs(60) {
            for _ in 0..limits.reads_left(Identity::Token) {
                limits.spend_read(Identity::Token);
                sent += 1;
            }
            tokio::time::sleep(limits.pause(Identity::Token).max(Duration::from_millis(10))).await;
        }
        assert!((700..900).contains(&sent), "{sent}");
    }
}
