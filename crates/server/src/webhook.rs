//! The receiver of GitHub's webhooks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use runner_manager_core::{Result, Secret};
use runner_manager_fleet::Fleet;
use runner_manager_github::{is_signed, workflow_job};
use tokio::sync::Semaphore;

use crate::serve::{HttpServer, Limits};

/// The largest body that is read. A job with hundreds of steps stays far below.
const MAX_BODY: usize = 2 * 1024 * 1024;
/// How long a body may take to come. GitHub gives up after ten seconds.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How many deliveries are worked on at once.
const AT_ONCE: usize = 512;
/// How many of them are stored at once. Few, so that what they ask for is begun while the others
/// wait: a burst that is taken whole before its first launches holds them all up.
const STORED_AT_ONCE: usize = 8;
/// How long one waits for its turn: GitHub sends none again by itself.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// GitHub comes from few addresses, and a reverse proxy from one. Proxies keep a connection for a
/// minute and more, and must not lose a delivery to one that is closed meanwhile.
const LIMITS: Limits = Limits {
    connections: 8_192,
    of_one_peer: 6_144,
    head: Duration::from_secs(75),
    request: Duration::from_secs(60),
};

/// Receives `workflow_job` events at `/webhook` until dropped.
pub struct WebhookServer(HttpServer);

struct Receiver {
    secrets: Vec<Secret>,
    fleet: Arc<Fleet>,
    slots: Semaphore,
    storing: Semaphore,
}

impl WebhookServer {
    /// Listens for events that are signed with one of the secrets. TLS is the business of a
    /// reverse proxy.
    ///
    /// # Errors
    /// [`ErrorKind::Local`](runner_manager_core::ErrorKind::Local) when the address cannot be had.
    pub async fn start(
        listen: SocketAddr,
        secrets: Vec<Secret>,
        fleet: Arc<Fleet>,
    ) -> Result<Self> {
        let receiver = Receiver {
            secrets,
            fleet,
            slots: Semaphore::new(AT_ONCE),
            storing: Semaphore::new(STORED_AT_ONCE),
        };
        let router = Router::new()
            .route("/webhook", post(receive))
            .with_state(Arc::new(receiver));
        let place = ("webhooks", "webhook");
        let server = HttpServer::start(place, listen, None, router, LIMITS);
        server.await.map(Self)
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// The JSON in a delivery of the content type `form`; empty where there is none.
fn payload(body: &[u8]) -> Vec<u8> {
    let mut pairs = url::form_urlencoded::parse(body);
    let found = pairs.find_map(|(name, value)| (name == "payload").then_some(value));
    found.map_or_else(Vec::new, |value| value.into_owned().into_bytes())
}

type Refusal = (StatusCode, &'static str);

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let too_many = || {
        tracing::warn!("too many webhooks at once; what this one told is found by the next look");
        let status = StatusCode::SERVICE_UNAVAILABLE;
        (status, "too many deliveries at once")
    };
    let turn = tokio::time::timeout(TURN_TIMEOUT, receiver.slots.acquire()).await;
    let Ok(Ok(_slot)) = turn else {
        return Err(too_many());
    };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let signature = header("x-hub-signature-256")
        .ok_or((StatusCode::UNAUTHORIZED, "the signature is missing"))?;
    let body = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY))
        .await
        .map_err(|_| (StatusCode::REQUEST_TIMEOUT, "the body did not come"))?
        .map_err(|_| {
            (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is cut off or too large",
            )
        })?;
    if !is_signed(&receiver.secrets, signature, &body) {
        tracing::warn!("a webhook with a wrong signature was refused");
        return Err((StatusCode::UNAUTHORIZED, "the signature is wrong"));
    }
    match header("x-github-event") {
        Some("workflow_job") => {}
        Some("ping") => return Ok(StatusCode::OK),
        _ => return Ok(StatusCode::NO_CONTENT),
    }
    let delivery = header("x-github-delivery")
        .filter(|id| !id.is_empty() && id.len() <= 100)
        .ok_or((
            StatusCode::BAD_REQUEST,
            "`x-github-delivery` is missing or too long",
        ))?;
    let is_form = header("content-type").is_some_and(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    let payload = if is_form { payload(&body) } else { body.into() };
    let event = workflow_job(&payload).map_err(|error| {
        tracing::warn!(%error, delivery, "a webhook cannot be read");
        (
            StatusCode::BAD_REQUEST,
            "the body is not that of a workflow_job event",
        )
    })?;
    let Some(event) = event else {
        return Ok(StatusCode::NO_CONTENT);
    };
    let turn = tokio::time::timeout(TURN_TIMEOUT, receiver.storing.acquire()).await;
    let Ok(Ok(_storing)) = turn else {
        return Err(too_many());
    };
    // Acknowledged only once it is stored.
    receiver.fleet.deliver(delivery, event).await.map_err(|error| {
        tracing::error!(%error, delivery, "cannot store a webhook; GitHub is asked to send it again");
        (StatusCode::SERVICE_UNAVAILABLE, "the event cannot be stored")
    })?;
    Ok(StatusCode::ACCEPTED)
}
