//! The command line's end of the socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use runner_manager_core::{Error, ErrorKind, Result, RunnerName};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::api::{Failure, Flushed, status_of};
use crate::socket;

/// The largest answer: the pools of a large manager are well below.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How much longer than the manager the client waits.
const MARGIN: Duration = Duration::from_secs(10);

/// A client of the manager that works with a state folder.
pub struct AdminClient {
    path: PathBuf,
}

impl AdminClient {
    /// A client of this state folder's manager. Nothing is opened yet.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            path: socket::path(state_dir),
        }
    }

    /// What the pools show of themselves, as JSON objects.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] when no manager answers.
    pub async fn pools(&self) -> Result<Value> {
        self.call(Method::GET, "/v1/pools", None, Duration::ZERO)
            .await
    }

    /// Removes a runner, busy or not, and waits until it is gone.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a runner that no pool has, [`ErrorKind::TimedOut`] after
    /// `deadline` (whole seconds), [`ErrorKind::Unreachable`] when no manager answers.
    pub async fn delete_runner(&self, name: &RunnerName, deadline: Duration) -> Result<()> {
        let seconds = deadline.as_secs();
        let path = format!("/v1/runners/{name}?deadline_seconds={seconds}");
        self.call(Method::DELETE, &path, None, deadline).await?;
        Ok(())
    }

    /// Removes the idle runners of one pool or all, with `busy` those that run a job too, and
    /// names them once they are gone.
    ///
    /// # Errors
    /// As [`AdminClient::delete_runner`]; `NotFound` is about the pool.
    pub async fn flush(
        &self,
        pool: Option<&str>,
        mode: runner_manager_fleet::FlushMode,
        deadline: Duration,
    ) -> Result<Vec<RunnerName>> {
        let busy = mode == runner_manager_fleet::FlushMode::IdleOrBusy;
        let seconds = deadline.as_secs();
        let body = json!({ "pool": pool, "busy": busy, "deadline_seconds": seconds });
        let answer = self
            .call(Method::POST, "/v1/flush", Some(body), deadline)
            .await?;
        let flushed: Flushed = serde_json::from_value(answer).map_err(odd)?;
        Ok(flushed.removed)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        deadline: Duration,
    ) -> Result<Value> {
        let exchange = self.exchange(method, path, body);
        match tokio::time::timeout(deadline + MARGIN, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(
                Error::new(ErrorKind::TimedOut, "the manager does not answer")
                    .with_context("socket", self.path.display()),
            ),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let unreachable = |e: Box<dyn std::error::Error + Send + Sync>| {
            let message = "no manager answers; start it with `runner-manager run`";
            Error::new(ErrorKind::Unreachable, message)
                .with_context("socket", self.path.display())
                .with_source(e)
        };
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|e| unreachable(e.into()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| unreachable(e.into()))?;
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "runner-manager")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(text)))
            .map_err(odd)?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER)
                .collect()
                .await?;
            Ok((status, body.to_bytes()))
        };
        // The connection lives as long as this call: dropping the call closes it.
        let (status, body) = tokio::select! {
            biased;
            answer = answer => answer.map_err(unreachable)?,
            ended = connection => {
                let why = ended.err().map_or_else(|| "closed".into(), |e| e.to_string());
                return Err(unreachable(why.into()));
            }
        };
        if status.is_success() {
            return match body.is_empty() {
                true => Ok(Value::Null),
                false => serde_json::from_slice(&body).map_err(odd),
            };
        }
        let failure: Failure = serde_json::from_slice(&body).map_err(odd)?;
        Err(Error::new(kind_of(status), failure.message))
    }
}

fn odd(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = "the manager's answer cannot be read; is it of another release?";
    Error::new(ErrorKind::BadAnswer, message).with_source(error)
}

fn kind_of(status: StatusCode) -> ErrorKind {
    let told = [
        ErrorKind::NotFound,
        ErrorKind::InvalidRequest,
        ErrorKind::Busy,
        ErrorKind::TimedOut,
    ];
    let found = told.into_iter().find(|kind| status_of(*kind) == status);
    found.unwrap_or(ErrorKind::Unexpected)
}
