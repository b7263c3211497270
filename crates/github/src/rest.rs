//! Makes calls over a transport: credentials, deadlines, retries, rate limits, `ETag`s, redirects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    LOCATION,
};
use reqwest::{Method, StatusCode};
use runner_manager_core::{Effect, Error, ErrorKind, Result};
use tokio::time::{Instant, timeout};
use url::Url;

use crate::answer::Answer;
use crate::auth::Bearer;
use crate::call::{Caching, Call};
use crate::classify::classify;
use crate::etag::{Etags, Kept};
use crate::limits::{Limits, limited};
use crate::retry::{Failure, next};
use crate::text::address;
use crate::transport::{Request, Transport, TransportError};

/// The version of GitHub's API that this client was written for.
const API_VERSION: &str = "2022-11-28";
/// The most redirects that one read follows.
const MAX_REDIRECTS: u32 = 3;

/// Makes calls over a transport. The clones of a client share one.
#[derive(Debug)]
pub(crate) struct RestClient {
    transport: Arc<dyn Transport>,
    /// What one attempt may take where the call does not say.
    deadline: Duration,
    limits: Limits,
    etags: Etags,
    calls: AtomicU64,
}

impl RestClient {
    pub(crate) fn new(transport: Arc<dyn Transport>, deadline: Duration) -> Self {
        Self {
            transport,
            deadline,
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
            self.limits.admit(bearer.identity, call)?;
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
            if call.method == Method::GET {
                self.limits.spend_read(bearer.identity);
            }
            let answer = self.send(call, &url, Some(bearer), kept.as_ref()).await?;
            match follow(call, &url, &answer) {
                Some(there) if hops < MAX_REDIRECTS => {
                    hops += 1;
                    url = there;
                }
                _ => break answer,
            }
        };
        if let Some(wait) = self.limits.learn(bearer.identity, &call.kind(), &answer) {
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
        let label = call.label();
        let deadline = call.deadline.unwrap_or(self.deadline);
        let request = Request {
            method: call.method.clone(),
            url: url.clone(),
            headers: headers(call, bearer, kept)?,
            body: body(call)?,
        };
        let begin = Instant::now();
        self.calls.fetch_add(1, Ordering::Relaxed);
        let sent = timeout(deadline, self.transport.send(request)).await;
        let took = begin.elapsed();
        let (method, path) = (call.method.as_str(), url.path());
        match sent.unwrap_or_else(|_| Err(TransportError::timed_out())) {
            Ok(response) => {
                let status = response.status.as_u16();
                tracing::debug!(method, path, status, ?took, "GitHub call");
                let mut body = response.body;
                // The Actions service begins some answers with a byte order mark.
                if body.starts_with(b"\xef\xbb\xbf") {
                    body.drain(..3);
                }
                Ok(Answer {
                    label,
                    status: response.status,
                    headers: response.headers,
                    body,
                })
            }
            Err(error) => {
                let failure = error.of_call(&label);
                tracing::debug!(method, path, error = %failure.error, ?took, "GitHub call failed");
                Err(failure)
            }
        }
    }
}

/// The headers of a request; those of the call replace the usual ones.
fn headers(
    call: &Call,
    bearer: Option<&Bearer>,
    kept: Option<&Arc<Kept>>,
) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/vnd.github+json"),
    );
    headers.insert(
        "x-github-api-version",
        HeaderValue::from_static(API_VERSION),
    );
    if call.body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(bearer) = bearer {
        headers.insert(AUTHORIZATION, authorization(bearer, call)?);
    }
    if let Some(kept) = kept {
        headers.insert(IF_NONE_MATCH, value(&kept.etag, call)?);
    }
    for (name, text) in &call.headers {
        headers.insert(HeaderName::from_static(name), value(text, call)?);
    }
    Ok(headers)
}

fn value(text: &str, call: &Call) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(text).map_err(|_| {
        let message = "the request cannot be made; a header holds characters that none takes";
        let error = Error::new(ErrorKind::InvalidRequest, message);
        Failure::lasting(error.with_context("request", call.label()))
    })
}

fn body(call: &Call) -> Result<Vec<u8>, Failure> {
    let Some(body) = &call.body else {
        return Ok(Vec::new());
    };
    serde_json::to_vec(body).map_err(|e| {
        let message = "the request cannot be made; its body is no JSON";
        let error = Error::new(ErrorKind::InvalidRequest, message).with_source(e);
        Failure::lasting(error.with_context("request", call.label()))
    })
}

/// The header that proves who calls; marked as sensitive, so that no lower layer shows it.
fn authorization(bearer: &Bearer, call: &Call) -> Result<HeaderValue, Failure> {
    let text = format!("{} {}", bearer.scheme, bearer.secret.expose());
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        let message =
            "the request cannot be made; the credential holds characters that no header takes";
        let error = Error::new(ErrorKind::InvalidRequest, message);
        Failure::lasting(error.with_context("request", call.label()))
    })?;
    value.set_sensitive(true);
    Ok(value)
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
