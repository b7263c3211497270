//! Sends calls: deadlines, repeats, rate limits, `ETag`s, redirects, size limits.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::header::{AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::{Client, Method, Response, StatusCode};
use runner_manager_core::{Effect, Error, ErrorKind, Result};
use tokio::time::Instant;
use url::Url;

use crate::answer::Answer;
use crate::auth::Bearer;
use crate::call::{Caching, Call};
use crate::carrier::{self, Carrier};
use crate::classify::classify;
use crate::etag::{Etags, Kept};
use crate::limits::{Limits, limited};
use crate::retry::{Failure, Fault, next};
use crate::text::address;

/// The largest body that is read.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// The most redirects that one read follows.
const MAX_REDIRECTS: u32 = 3;

/// The way to GitHub.
#[derive(Debug)]
pub(crate) struct Transport {
    client: Client,
    /// Where there is one, all calls go over it.
    carrier: Option<Arc<dyn Carrier>>,
    limits: Limits,
    etags: Etags,
    calls: AtomicU64,
}

impl Transport {
    pub(crate) fn new(client: Client, carrier: Option<Arc<dyn Carrier>>) -> Self {
        Self {
            client,
            carrier,
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
            let Some(wait) = next(failure.fault, call.safety, attempt, self.jitter()) else {
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

    fn jitter(&self) -> f64 {
        match &self.carrier {
            Some(carrier) => carrier.jitter(),
            None => rand::random(),
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
        if let Some(carrier) = &self.carrier {
            self.calls.fetch_add(1, Ordering::Relaxed);
            let etag = kept.map(|kept| kept.etag.as_str());
            return carrier::send(carrier.as_ref(), call, url, etag).await;
        }
        let mut request = self.client.request(call.method.clone(), url.clone());
        if let Some(bearer) = bearer {
            request = request.header(AUTHORIZATION, authorization(bearer, call)?);
        }
        if let Some(kept) = kept {
            request = request.header(IF_NONE_MATCH, &kept.etag);
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        if let Some(deadline) = call.deadline {
            request = request.timeout(deadline);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let begin = Instant::now();
        self.calls.fetch_add(1, Ordering::Relaxed);
        let outcome = match request.send().await {
            Ok(response) => read(call.label(), response).await,
            Err(e) => Err(broken(e, &call.label())),
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

async fn read(label: String, mut response: Response) -> Result<Answer, Failure> {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => {
                let error = Error::new(
                    ErrorKind::BadAnswer,
                    "the answer is larger than 16 MiB; check that `url` is GitHub's",
                );
                return Err(Failure::lasting(error.with_context("request", label)));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(e) => return Err(broken(e, &label)),
        }
    }
    // The Actions service begins some answers with a byte order mark.
    if body.starts_with(b"\xef\xbb\xbf") {
        body.drain(..3);
    }
    Ok(Answer {
        label,
        status,
        headers,
        body,
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

/// Tells what broke a call off.
fn broken(e: reqwest::Error, label: &str) -> Failure {
    let e = e.without_url();
    let mut causes = e.to_string();
    let mut cause = e.source();
    while let Some(inner) = cause {
        causes.push_str(&format!(" {inner}"));
        cause = inner.source();
    }
    let (kind, what, fault) = if causes.contains("invalid peer certificate") {
        (
            ErrorKind::Unreachable,
            "the server's certificate is not trusted; give its authority as `ca_bundle`, and check the host name and the clock",
            Fault::Lasting,
        )
    } else if e.is_connect() {
        let kind = if e.is_timeout() {
            ErrorKind::TimedOut
        } else {
            ErrorKind::Unreachable
        };
        (
            kind,
            "cannot connect to GitHub; check `url`, the network, DNS and the proxy",
            Fault::NotSent,
        )
    } else if e.is_timeout() {
        (
            ErrorKind::TimedOut,
            "no whole answer came from GitHub before the deadline",
            Fault::Passing,
        )
    } else if e.is_builder() {
        (
            ErrorKind::InvalidRequest,
            "the request cannot be made; the credential may hold characters that no header takes",
            Fault::Lasting,
        )
    } else {
        (
            ErrorKind::Unreachable,
            "the connection to GitHub broke off",
            Fault::Passing,
        )
    };
    let error = Error::new(kind, what)
        .with_context("request", label)
        .with_source(e);
    Failure { error, fault }
}
