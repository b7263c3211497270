//! How requests reach GitHub: over HTTP, or within this process to a simulated GitHub.

use std::fmt;

use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use runner_manager_core::{Error, ErrorKind};
use url::Url;

use crate::retry::{Failure, Fault};

/// An HTTP request, complete with its credential.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The whole address.
    pub url: Url,
    /// All headers but those that a connection adds by itself, such as `host`.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and body may hold credentials.
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

/// An HTTP response whose body has been read in full.
#[derive(Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body may hold credentials.
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Why no response came.
#[derive(Debug)]
pub struct TransportError(Failure);

impl TransportError {
    /// The request certainly did not reach GitHub: any call may be sent again.
    #[must_use]
    pub fn not_sent(error: Error) -> Self {
        Self(Failure {
            error,
            fault: Fault::NotSent,
        })
    }

    /// The request may have taken effect: only calls that may be repeated are sent again.
    #[must_use]
    pub fn unanswered(error: Error) -> Self {
        Self(Failure {
            error,
            fault: Fault::Passing,
        })
    }

    /// The same request fails the same way again.
    #[must_use]
    pub fn lasting(error: Error) -> Self {
        Self(Failure::lasting(error))
    }

    /// No response came in time.
    pub(crate) fn timed_out() -> Self {
        Self::unanswered(Error::new(
            ErrorKind::TimedOut,
            "no whole answer came from GitHub before the deadline",
        ))
    }

    /// The failure of a call with this label.
    pub(crate) fn of_call(self, label: &str) -> Failure {
        Failure {
            error: self.0.error.with_context("request", label),
            fault: self.0.fault,
        }
    }
}

/// Sends requests to GitHub. Everything above it is the client's own: credentials, deadlines,
/// retries, rate limits, `ETag`s, redirects, pages and errors.
pub trait Transport: Send + Sync {
    /// Sends one request and gives its response, whatever its status. The client drops the
    /// future at the deadline of the call: a transport needs none of its own.
    ///
    /// # On failure
    /// The error says whether the request may have taken effect. Cancelled, it may have, too.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>>;

    /// A number in 0..1 that spreads retries, so that a simulation's seed decides it.
    fn jitter(&self) -> f64;
}

impl fmt::Debug for dyn Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
