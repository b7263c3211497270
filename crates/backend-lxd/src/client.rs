//! Requests: their address, deadline, size limit and errors.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode};
use runner_manager_core::{Budget, BudgetLimits, Budgets, Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::api::{refused, strange, unanswered};
use crate::endpoint::Endpoint;
use crate::wire::{Envelope, Operation};

/// The largest answer: thousands of instances with their state are below.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// The longest text that is read for its end.
const MAX_TEXT: usize = 16 * 1024 * 1024;

/// A client of one project.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    endpoint: Endpoint,
    project: String,
    budget: Arc<Budget>,
    /// How long one request may take.
    pub(crate) timeout: Duration,
}

/// A server of one's own throttles nobody by itself. The budget keeps a manager gone wrong from
/// being felt, and follows a proxy in front that does throttle.
fn limits() -> BudgetLimits {
    BudgetLimits {
        rate: 200.0,
        floor: 2.0,
        burst: 400,
        ..BudgetLimits::default()
    }
}

/// A request's answer: at once, or by and by.
pub(crate) enum Change {
    Done,
    Begun(Operation),
}

impl Client {
    pub(crate) fn new(
        endpoint: Endpoint,
        project: &str,
        budgets: &Budgets,
        timeout: Duration,
    ) -> Self {
        Self {
            budget: budgets.of(&format!("lxd {}", endpoint.address()), limits()),
            endpoint,
            project: project.to_owned(),
            timeout,
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn project(&self) -> &str {
        &self.project
    }

    /// The address of a path below `/1.0`. Segments are escaped.
    pub(crate) fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Url> {
        let mut url = self.endpoint.base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::new(ErrorKind::InvalidConfig, "the server's URL has no path"))?
            .pop_if_empty()
            .push("1.0")
            .extend(path);
        url.query_pairs_mut()
            .append_pair("project", &self.project)
            .extend_pairs(query);
        Ok(url)
    }

    fn request(&self, method: Method, url: Url, timeout: Duration) -> RequestBuilder {
        self.endpoint.http.request(method, url).timeout(timeout)
    }

    /// Sends a request when its turn comes; a refusal is an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
        self.budget.spend(self.send_now(request)).await
    }

    async fn send_now(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|e| self.at(unanswered(e)))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let (bytes, _) = read(response, MAX_ANSWER).await?;
        let envelope: Option<Envelope> = serde_json::from_slice(&bytes).ok();
        let words = envelope.map(|e| e.error).unwrap_or_default();
        Err(self.at(refused(status.as_u16(), &words)))
    }

    fn at(&self, error: Error) -> Error {
        error.with_context("server", self.endpoint.address())
    }

    async fn envelope(&self, response: Response) -> Result<Envelope> {
        let (bytes, whole) = read(response, MAX_ANSWER).await?;
        if !whole {
            return Err(self.at(strange("larger than 256 MiB")));
        }
        let envelope: Envelope = serde_json::from_slice(&bytes)
            .map_err(|error| self.at(strange("not of this API").with_source(error)))?;
        // What is long in coming has begun as a success.
        if envelope.kind == "error" {
            return Err(self.at(refused(envelope.error_code, &envelope.error)));
        }
        Ok(envelope)
    }

    /// Asks for something, for as long as `timeout`.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        timeout: Duration,
    ) -> Result<T> {
        let url = self.url(path, query)?;
        let request = self.request(Method::GET, url, timeout);
        let response = self.send(request).await?;
        let envelope = self.envelope(response).await?;
        serde_json::from_value(envelope.metadata)
            .map_err(|error| self.at(strange("other fields than expected").with_source(error)))
    }

    /// Asks for something.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T> {
        self.ask(path, query, self.timeout).await
    }

    /// The last bytes of a text that the server keeps, at most `limit`.
    pub(crate) async fn tail(&self, path: &[&str], limit: usize) -> Result<String> {
        let url = self.url(path, &[])?;
        let request = self.request(Method::GET, url, self.timeout);
        let (bytes, _) = read(self.send(request).await?, MAX_TEXT).await?;
        let end = &bytes[bytes.len().saturating_sub(limit)..];
        Ok(String::from_utf8_lossy(end).into_owned())
    }

    /// Asks for a change.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Change> {
        let url = self.url(path, query)?;
        let mut request = self.request(method, url, self.timeout);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = self.send(request).await?;
        let envelope = self.envelope(response).await?;
        if envelope.kind != "async" {
            return Ok(Change::Done);
        }
        let operation = serde_json::from_value(envelope.metadata)
            .map_err(|error| self.at(strange("no operation").with_source(error)))?;
        Ok(Change::Begun(operation))
    }
}

/// Reads at most `limit` bytes of a body, and says whether that was all.
pub(crate) async fn read(mut response: Response, limit: usize) -> Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        let room = limit - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

/// Takes what is absent for nothing.
pub(crate) fn absent_is_none<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
