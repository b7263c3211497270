//! The requests and their answers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use runner_manager_core::{Error, ErrorKind, RunnerName};
use runner_manager_fleet::{Fleet, FlushMode};
use serde::{Deserialize, Serialize};

/// The longest that a removal is waited for.
const MAX_DEADLINE: u64 = 3_600;

pub(crate) fn routes(fleet: Arc<Fleet>) -> Router {
    Router::new()
        .route("/v1/pools", get(pools))
        .route("/v1/runners/{name}", delete(delete_runner))
        .route("/v1/flush", post(flush))
        .with_state(fleet)
}

/// An error on its way to the client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: String,
    pub(crate) message: String,
}

pub(crate) fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::InvalidRequest => StatusCode::BAD_REQUEST,
        ErrorKind::Busy => StatusCode::CONFLICT,
        ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn refuse(error: &Error) -> Response {
    let failure = Failure {
        kind: error.kind().as_str().to_owned(),
        message: error.to_string(),
    };
    (status_of(error.kind()), Json(failure)).into_response()
}

/// How long the client wants to wait.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Patience {
    #[serde(default = "five_minutes")]
    pub(crate) deadline_seconds: u64,
}

fn five_minutes() -> u64 {
    300
}

fn deadline(seconds: u64) -> Duration {
    Duration::from_secs(seconds.min(MAX_DEADLINE))
}

/// What to flush.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flush {
    pub(crate) pool: Option<String>,
    #[serde(default)]
    pub(crate) busy: bool,
    #[serde(default = "five_minutes")]
    pub(crate) deadline_seconds: u64,
}

/// What was flushed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flushed {
    pub(crate) removed: Vec<RunnerName>,
}

async fn pools(State(fleet): State<Arc<Fleet>>) -> Response {
    Json(fleet.snapshot().await).into_response()
}

async fn delete_runner(
    State(fleet): State<Arc<Fleet>>,
    Path(name): Path<String>,
    Query(patience): Query<Patience>,
) -> Response {
    let name: RunnerName = match name.parse() {
        Ok(name) => name,
        Err(invalid) => {
            let error: runner_manager_core::InvalidValue = invalid;
            return refuse(&Error::new(ErrorKind::InvalidRequest, error.to_string()));
        }
    };
    let wait = deadline(patience.deadline_seconds);
    match fleet.delete_runner(&name, wait).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(&error),
    }
}

async fn flush(State(fleet): State<Arc<Fleet>>, Json(asked): Json<Flush>) -> Response {
    let mode = if asked.busy {
        FlushMode::IdleOrBusy
    } else {
        FlushMode::Idle
    };
    let wait = deadline(asked.deadline_seconds);
    match fleet.flush(asked.pool.as_deref(), mode, wait).await {
        Ok(removed) => Json(Flushed { removed }).into_response(),
        Err(error) => refuse(&error),
    }
}
