//! How requests reach GitHub: over HTTP, or a simulated GitHub in this process.

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use runner_manager_core::Error;
use url::Url;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The whole address.
    pub url: Url,
    /// The headers, the credential among them, marked as sensitive. HTTP adds those that every
    /// request has.
    pub headers: HeaderMap,
    /// The body, JSON.
    pub body: Option<serde_json::Value>,
    /// The time in which the response must have come, where it is not the configured one.
    pub timeout: Option<Duration>,
}

/// A response that was read in full.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// The reason why no response came.
#[derive(Debug)]
pub enum TransportError {
    /// The request did not reach GitHub.
    NotSent(Error),
    /// The request may have taken effect.
    Unanswered(Error),
    /// The same request would fail again.
    Permanent(Error),
}

/// Sends requests to GitHub. Repeats, rate limits, tags, pages and errors are above it: the code
/// of [`GitHub`](crate::GitHub) is the same over each transport.
pub trait Transport: Send + Sync {
    /// Sends one request. The caller drops it soon after its timeout.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>>;

    /// A number in 0..1 that spreads repeats; a simulation takes it from its seed.
    fn jitter(&self) -> f64 {
        rand::random()
    }
}

impl fmt::Debug for dyn Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}
