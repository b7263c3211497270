//! Another way to GitHub than HTTP: to one that is simulated in this process.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use runner_manager_core::{Error, ErrorKind};
use url::Url;

use crate::answer::Answer;
use crate::call::Call;
use crate::retry::{Failure, Fault};

/// How long one request may take that does not say, as over HTTP by default.
const DEADLINE: Duration = Duration::from_secs(30);

/// A request as it would be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// The whole address.
    pub url: Url,
    /// The headers that this call has beside the usual.
    pub headers: Vec<(&'static str, String)>,
    /// The tag of the answer that the client has, as `if-none-match` would carry it.
    pub etag: Option<String>,
    /// The body, JSON.
    pub body: Option<serde_json::Value>,
}

/// An answer as it would come.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The request did not reach GitHub.
    NotSent,
    /// It may have taken effect.
    Unanswered,
}

/// Carries requests to a simulated GitHub. Everything above it, repeats, rate limits, tags,
/// pages and errors, is the client's own code.
pub trait Carrier: Send + Sync {
    /// Carries one request. The deadline of a call is kept by the client.
    fn carry(&self, request: Outgoing) -> BoxFuture<'_, Result<Incoming, Broken>>;

    /// A number in 0..1 that spreads repeats, so that a simulation's seed decides it.
    fn jitter(&self) -> f64;
}

/// Sends one request over a carrier.
pub(crate) async fn send(
    carrier: &dyn Carrier,
    call: &Call,
    url: &Url,
    etag: Option<&str>,
) -> Result<Answer, Failure> {
    let request = Outgoing {
        method: call.method.clone(),
        url: url.clone(),
        headers: call.headers.clone(),
        etag: etag.map(str::to_owned),
        body: call.body.clone(),
    };
    let broken = |kind, fault| Failure {
        error: Error::new(kind, "no answer came from the simulated GitHub")
            .with_context("request", call.label()),
        fault,
    };
    match tokio::time::timeout(call.deadline.unwrap_or(DEADLINE), carrier.carry(request)).await {
        Err(_) => Err(broken(ErrorKind::TimedOut, Fault::Passing)),
        Ok(Err(Broken::NotSent)) => Err(broken(ErrorKind::Unreachable, Fault::NotSent)),
        Ok(Err(Broken::Unanswered)) => Err(broken(ErrorKind::Unreachable, Fault::Passing)),
        Ok(Ok(incoming)) => Ok(Answer {
            label: call.label(),
            status: StatusCode::from_u16(incoming.status).unwrap_or(StatusCode::BAD_GATEWAY),
            headers: headers(&incoming.headers),
            body: incoming.body,
        }),
    }
}

fn headers(given: &[(&'static str, String)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, String)| {
        let value = HeaderValue::from_str(value).ok()?;
        Some((HeaderName::from_static(name), value))
    };
    given.iter().filter_map(pair).collect()
}

impl fmt::Debug for dyn Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Carrier")
    }
}
