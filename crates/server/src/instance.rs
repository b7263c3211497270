//! Where instances call the manager: they claim their secrets, and report how far they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use runner_manager_core::{Error, ErrorKind, Result, RunnerName, Secret};
use runner_manager_fleet::{Fleet, Phase};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::serve::{HttpServer, Limits};
use crate::tls::TlsFiles;

/// The largest body that is read.
const MAX_BODY: usize = 4 * 1024;
/// How long one call may take, the look at the backend included.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);
/// How many calls are worked on at once; instances try the others again.
const AT_ONCE: usize = 256;

/// An instance calls now and then, and a job may call as it likes: none has all connections. Many
/// instances may come from one address, where a network translates theirs.
const LIMITS: Limits = Limits {
    connections: 1_024,
    of_one_peer: 256,
    head: Duration::from_secs(30),
    request: Duration::from_secs(CALL_TIMEOUT.as_secs() + 10),
};

/// Answers instances until dropped.
pub struct InstanceServer(HttpServer);

struct Desk {
    fleet: Arc<Fleet>,
    slots: Semaphore,
}

impl InstanceServer {
    /// Listens for instances: with TLS, or in the clear on a loopback address, for a proxy of
    /// this machine that speaks TLS or for instances on it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] for an address of the network without TLS, and for a
    /// certificate that cannot be used; [`ErrorKind::Local`] when the address cannot be had.
    pub async fn start(
        listen: SocketAddr,
        tls: Option<TlsFiles>,
        fleet: Arc<Fleet>,
    ) -> Result<Self> {
        if tls.is_none() && !listen.ip().is_loopback() {
            let message = "instances would send their nonces in the clear; give `tls_certificate_file` and `tls_key_file`, or listen on a loopback address";
            return Err(
                Error::new(ErrorKind::InvalidConfig, message).with_context("address", listen)
            );
        }
        let acceptor = tls.map(|files| files.acceptor()).transpose()?;
        let slots = Semaphore::new(AT_ONCE);
        let router = Router::new()
            .route("/runner/{name}/claim", post(claim))
            .route("/runner/{name}/phase", post(phase))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Arc::new(Desk { fleet, slots }));
        let place = ("instances", "callback");
        let server = HttpServer::start(place, listen, acceptor, router, LIMITS);
        server.await.map(Self)
    }

    /// The address that is listened on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

type Refused = (StatusCode, &'static str);

/// One answer for all that is refused: who is not the instance learns nothing. The log says why.
const REFUSED: Refused = (StatusCode::FORBIDDEN, "refused; the manager's log says why");
const BUSY: Refused = (StatusCode::SERVICE_UNAVAILABLE, "try again");

/// The name that is called about, and the secret that came along.
fn caller(
    name: &str,
    headers: &HeaderMap,
    from: SocketAddr,
) -> std::result::Result<(RunnerName, Secret), Refused> {
    let refuse = |reason: &str| {
        let from = from.ip();
        tracing::error!(alarm = true, %from, reason, "a call of an instance was refused");
        REFUSED
    };
    let name = name.parse();
    let name = name.map_err(|_| refuse("the name is none of a runner"))?;
    let header = headers.get(AUTHORIZATION).and_then(|h| h.to_str().ok());
    let secret = header.and_then(|h| h.strip_prefix("Bearer "));
    let secret = secret.ok_or_else(|| refuse("no secret came along"))?;
    Ok((name, Secret::new(secret)))
}

async fn bounded<T>(
    desk: &Desk,
    name: &RunnerName,
    call: impl Future<Output = Result<T>>,
) -> std::result::Result<T, Refused> {
    let _slot = desk.slots.try_acquire().map_err(|_| BUSY)?;
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            tracing::error!(runner = %name, %error, "cannot answer an instance");
            Err(BUSY)
        }
        Err(_) => Err(BUSY),
    }
}

async fn claim(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> std::result::Result<Response, Refused> {
    let (name, nonce) = caller(&name, &headers, peer)?;
    let call = desk.fleet.claim(&name, &nonce, peer.ip());
    let secrets = bounded(&desk, &name, call).await?.map_err(|_| REFUSED)?;
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, secrets.expose().to_owned()).into_response())
}

/// What an instance reports.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    phase: Phase,
    /// With `job-completed` and `shutting-down`.
    exit_code: Option<u8>,
}

async fn phase(
    State(desk): State<Arc<Desk>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(report): Json<Report>,
) -> std::result::Result<StatusCode, Refused> {
    let (name, token) = caller(&name, &headers, peer)?;
    let call = desk
        .fleet
        .hear(&name, &token, report.phase, report.exit_code, peer.ip());
    bounded(&desk, &name, call).await?.map_err(|_| REFUSED)?;
    Ok(StatusCode::NO_CONTENT)
}
