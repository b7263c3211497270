//! Makes calls over a transport: deadlines, repeats, rate limits, `ETag`s, redirects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::{Method, StatusCode};
use runner_manager_core::{Effect, Error, ErrorKind, Result};
use tokio::time::Instant;
use url::Url;

use crate::answer::Answer;
use crate::auth::Bearer;
use crate::call::{Caching, Call};
use crate::classify::classify;
use crate::etag::{Etags, Kept};
use crate::limits::{Limits, limited};
use crate::retry::{Failure, Fault, next};
use crate::text::address;
use crate::transport::{Request, Transport, TransportError};

/// How much longer than its timeout a transport may take, which knows more of the reason.
const GRACE: Duration = Duration::from_secs(1);
pub(crate) const NO_ANSWER: &str = "no whole answer came from GitHub before the deadline";
/// The most redirects that one read follows.
const MAX_REDIRECTS: u32 = 3;

/// Makes calls.
#[derive(Debug)]
pub(crate) struct Caller {
    transport: Arc<dyn Transport>,
    /// The time that a call may take which has none of its own.
    timeout: Duration,
    limits: Limits,
    etags: Etags,
    calls: AtomicU64,
}

impl Caller {
    pub(crate) fn new(transport: Arc<dyn Transport>, timeout: Duration) -> Self {
        Self {
            transport,
            timeout,
            limits: Limits::default(),
            etags: Etags::default(),
            calls: AtomicU64::new(0),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many requests were sent so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Makes a call, again where that is safe, and gives the successful answer.
    pub(crate) async fn call(&self, call: &Call, bearer: &Bearer) -> Result<Answer> {
        let mut attempt = 1;
        loop {
            self.limits.admit(bearer.identity, &call.label())?;
            let failure = match self.attempt(call, bearer).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let Some(wait) = next(failure.fault, call.safety, attempt, self.transport.jitter())
            else {
                let error = failure.finish(call.safety, attempt);
                let name_taken = attempt > 1 && error.kind() == ErrorKind::AlreadyExists;
                return Err(if name_taken {
                    error
                        .with_effect(Effect::Unknown)
                        .with_context("attempts", attempt)
                } else {
                    error
                });
            };
            tracing::debug!(attempt, ?wait, error = %failure.error, "GitHub call is made again");
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// One attempt, with the redirects that it may follow.
    async fn attempt(&self, call: &Call, bearer: &Bearer) -> Result<Answer, Failure> {
        let kept = match call.caching {
            Caching::ByEtag => self.etags.get(bearer.identity, call.url.as_str()),
            Caching::None => None,
        };
        let mut url = call.url.clone();
        let mut hops = 0;
        let mut answer = loop {
            let answer = self.send(call, &url, Some(bearer), kept.as_ref()).await?;
            match follow(call, &url, &answer) {
                Some(there) if hops < MAX_REDIRECTS => {
                    hops += 1;
                    url = there;
                }
                _ => break answer,
            }
        };
        if let Some(wait) = self.limits.learn(bearer.identity, &answer) {
            let error = limited(wait).with_context("request", &answer.label);
            return Err(Failure::lasting(error));
        }
        if let (StatusCode::NOT_MODIFIED, Some(kept)) = (answer.status, &kept) {
            answer.status = StatusCode::OK;
            answer.body.clone_from(&kept.body);
            return Ok(answer);
        }
        if let Some(failure) = classify(call, &answer, &[&bearer.secret]) {
            return Err(failure);
        }
        if let (Caching::ByEtag, Some(etag)) = (call.caching, answer.header(ETAG)) {
            let kept = Kept {
                etag: etag.to_owned(),
                body: answer.body.clone(),
            };
            self.etags.put(bearer.identity, call.url.as_str(), kept);
        }
        Ok(answer)
    }

    /// Sends one request and reads its answer, whatever it says.
    pub(crate) async fn send(
        &self,
        call: &Call,
        url: &Url,
        bearer: Option<&Bearer>,
        kept: Option<&Arc<Kept>>,
    ) -> Result<Answer, Failure> {
        let request = Request {
            method: call.method.clone(),
            url: url.clone(),
            headers: headers(call, bearer, kept)?,
            body: call.body.clone(),
            timeout: call.deadline,
        };
        let begin = Instant::now();
        self.calls.fetch_add(1, Ordering::Relaxed);
        let deadline = call.deadline.unwrap_or(self.timeout) + GRACE;
        let outcome = match tokio::time::timeout(deadline, self.transport.send(request)).await {
            Ok(Ok(response)) => Ok(Answer {
                label: call.label(),
                status: response.status,
                headers: response.headers,
                body: response.body,
            }),
            Ok(Err(error)) => Err(failure(error, call)),
            Err(_) => {
                let error = Error::new(ErrorKind::TimedOut, NO_ANSWER);
                Err(failure(TransportError::Unanswered(error), call))
            }
        };
        let took = begin.elapsed();
        let (method, path) = (call.method.as_str(), url.path());
        match &outcome {
            Ok(answer) => {
                let status = answer.status.as_u16();
                tracing::debug!(method, path, status, ?took, "GitHub call");
            }
            Err(failure) => {
                tracing::debug!(method, path, error = %failure.error, ?took, "GitHub call failed");
            }
        }
        outcome
    }
}

/// The headers of a call: its own, the credential, and the tag of the answer that is kept.
fn headers(
    call: &Call,
    bearer: Option<&Bearer>,
    kept: Option<&Arc<Kept>>,
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in &call.headers {
        headers.insert(*name, value_of(value, call)?);
    }
    if let Some(bearer) = bearer {
        headers.insert(AUTHORIZATION, authorization(bearer, call)?);
    }
    if let Some(kept) = kept {
        headers.insert(IF_NONE_MATCH, value_of(&kept.etag, call)?);
    }
    Ok(headers)
}

fn failure(error: TransportError, call: &Call) -> Failure {
    let (error, fault) = match error {
        TransportError::NotSent(error) => (error, Fault::NotSent),
        TransportError::Unanswered(error) => (error, Fault::Passing),
        TransportError::Permanent(error) => (error, Fault::Lasting),
    };
    Failure {
        error: error.with_context("request", call.label()),
        fault,
    }
}

/// The header that proves who calls; marked as sensitive, so that no lower layer shows it.
fn authorization(bearer: &Bearer, call: &Call) -> Result<HeaderValue, Failure> {
    let text = format!("{} {}", bearer.scheme, bearer.secret.expose());
    let mut value = value_of(&text, call)?;
    value.set_sensitive(true);
    Ok(value)
}

fn value_of(text: &str, call: &Call) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(text).map_err(|_| {
        let message =
            "the request cannot be made; the credential holds characters that no header takes";
        let error = Error::new(ErrorKind::InvalidRequest, message);
        Failure::lasting(error.with_context("request", call.label()))
    })
}

/// Where a redirect leads that may be followed: a read, within the same host.
fn follow(call: &Call, from: &Url, answer: &Answer) -> Option<Url> {
    let redirect = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    if !redirect || call.method != Method::GET {
        return None;
    }
    let there = from.join(answer.header(LOCATION)?).ok()?;
    // The credential is for this host alone.
    (there.origin() == from.origin()).then_some(there)
}

/// Where a redirect leads, for an error.
pub(crate) fn target(answer: &Answer) -> String {
    let there = answer.header(LOCATION).and_then(|to| Url::parse(to).ok());
    match there {
        Some(url) => format!(", to {}", address(&url)),
        None => String::new(),
    }
}
