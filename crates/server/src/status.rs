//! What others may ask of a manager over HTTP: is it well, what do its runners do, metrics; and the
//! flush of a machine that is to be emptied.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus_client::encoding::prometheus_text;
use runner_manager_core::{Error, Result};
use runner_manager_fleet::{Fleet, FlushMode};
use runner_manager_store::{Live, RunnerFilter, RunnerState, Store};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::api::status_of;
use crate::metrics::Metrics;
use crate::serve::{HttpServer, Limits};

/// How long an answer may take that changes nothing.
const LOOK: Duration = Duration::from_secs(10);
/// How long a flush may take; what is under way then goes on.
const FLUSH: Duration = Duration::from_secs(1_200);
/// How many requests are worked on at once; others are turned away.
const AT_ONCE: usize = 16;
const LIMITS: Limits = Limits {
    connections: 256,
    of_one_peer: 64,
    head: Duration::from_secs(75),
    request: Duration::from_secs(FLUSH.as_secs() + 30),
};

/// Whether whoever reaches the address may remove runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushing {
    /// They may.
    Allowed,
    /// They may look, and no more.
    Refused,
}

/// Answers at `/health`, `/metrics`, `/runner/check` and `/runner/flush` until dropped.
pub struct StatusServer(HttpServer);

struct Status {
    fleet: Arc<Fleet>,
    store: Store,
    metrics: Metrics,
    flushing: Flushing,
    slots: Semaphore,
}

impl StatusServer {
    /// Listens; whoever reaches the address may look, and flush where that is allowed.
    ///
    /// # Errors
    /// [`ErrorKind::Local`](runner_manager_core::ErrorKind::Local) when the address cannot be had, or the database fails.
    pub async fn start(
        listen: SocketAddr,
        flushing: Flushing,
        fleet: Arc<Fleet>,
        store: Store,
    ) -> Result<Self> {
        let status = Status {
            metrics: Metrics::new(fleet.clone(), store.clone()).await?,
            fleet,
            store,
            flushing,
            slots: Semaphore::new(AT_ONCE),
        };
        let router = Router::new()
            .route("/health", get(health))
            .route("/metrics", get(metrics))
            .route("/runner/check", get(check))
            .route("/runner/flush", post(flush))
            .with_state(Arc::new(status));
        let place = ("those who ask", "status");
        let server = HttpServer::start(place, listen, None, router, LIMITS);
        server.await.map(Self)
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// A refusal, in words.
type Refusal = (StatusCode, String);

fn refused(error: &Error) -> Refusal {
    (status_of(error.kind()), format!("{error}\n"))
}

impl Status {
    /// A place among the requests that are worked on.
    fn slot(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        let words = "too many requests at once; ask again\n";
        let slot = self.slots.try_acquire();
        slot.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, words.into()))
    }

    /// Looks, within the deadline and the bound of requests.
    async fn look<T>(&self, look: impl Future<Output = Result<T>>) -> Result<T, Refusal> {
        let _slot = self.slot()?;
        match tokio::time::timeout(LOOK, look).await {
            Ok(answer) => answer.map_err(|error| refused(&error)),
            Err(_) => {
                let words = "the manager does not answer in time\n";
                Err((StatusCode::SERVICE_UNAVAILABLE, words.into()))
            }
        }
    }

    /// The live runners; the store must answer for it.
    async fn check(&self) -> Result<RunnerCheck> {
        let filter = RunnerFilter {
            pool: None,
            live_only: Live::Yes,
        };
        let mut check = RunnerCheck::default();
        for runner in self.store.runners(filter).await? {
            check.add(runner.name.to_string(), runner.state);
        }
        Ok(check)
    }
}

/// What the runners do, as existing deployments read it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct RunnerCheck {
    online: usize,
    busy: usize,
    offline: usize,
    unknown: usize,
    /// Those that are online, busy or not.
    runners: Vec<String>,
    busy_runners: Vec<String>,
}

impl RunnerCheck {
    fn add(&mut self, name: String, state: RunnerState) {
        match state {
            RunnerState::Idle => {
                self.online += 1;
                self.runners.push(name);
            }
            RunnerState::Busy => {
                self.online += 1;
                self.busy += 1;
                self.runners.push(name.clone());
                self.busy_runners.push(name);
            }
            RunnerState::Booting | RunnerState::Finished | RunnerState::Deleting => {
                self.offline += 1;
            }
            // GitHub does not know it, or not yet.
            RunnerState::Requested | RunnerState::Launching | RunnerState::Gone => {
                self.unknown += 1;
            }
        }
    }
}

async fn health(State(status): State<Arc<Status>>) -> Result<StatusCode, Refusal> {
    let alive = async {
        status.check().await?;
        Ok(status.fleet.is_at_work().await)
    };
    match status.look(alive).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => {
            let words = "the manager stops, or a part of it has ended; its log says why\n";
            Err((StatusCode::SERVICE_UNAVAILABLE, words.into()))
        }
    }
}

async fn metrics(State(status): State<Arc<Status>>) -> Result<Response, Refusal> {
    let text = status.look(status.metrics.text()).await?;
    Ok((
        [(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)],
        text,
    )
        .into_response())
}

async fn check(State(status): State<Arc<Status>>) -> Result<Json<RunnerCheck>, Refusal> {
    status.look(status.check()).await.map(Json)
}

/// Which runners go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default, rename = "flush-busy", deserialize_with = "is_true")]
    busy: bool,
}

/// Existing clients send `True` and `False`. A word that is neither must not end a job.
fn is_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    String::deserialize(deserializer).map(|word| word.eq_ignore_ascii_case("true"))
}

async fn flush(
    State(status): State<Arc<Status>>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    // What a browser on this machine is made to send says where it comes from.
    if status.flushing == Flushing::Refused || headers.contains_key(header::ORIGIN) {
        let words = "no flush is allowed here; set `flush` in `[status]` and start anew, or use `runner-manager runners flush`\n";
        return Err((StatusCode::FORBIDDEN, words.into()));
    }
    let _slot = status.slot()?;
    let mode = match which.busy {
        true => FlushMode::IdleOrBusy,
        false => FlushMode::Idle,
    };
    match status.fleet.flush(None, mode, FLUSH).await {
        Ok(removed) => {
            tracing::info!(
                removed = removed.len(),
                busy = which.busy,
                "a flush was asked for over HTTP"
            );
            Ok(StatusCode::NO_CONTENT)
        }
        Err(error) => Err(refused(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_counted_once() {
        let mut check = RunnerCheck::default();
        for (name, state) in [
            ("a", RunnerState::Requested),
            ("b", RunnerState::Launching),
            ("c", RunnerState::Booting),
            ("d", RunnerState::Idle),
            ("e", RunnerState::Busy),
            ("f", RunnerState::Finished),
            ("g", RunnerState::Deleting),
        ] {
            check.add(name.into(), state);
        }
        let expected = RunnerCheck {
            online: 2,
            busy: 1,
            offline: 3,
            unknown: 2,
            runners: vec!["d".into(), "e".into()],
            busy_runners: vec!["e".into()],
        };
        assert_eq!(check, expected);
    }
}
