//! The suite's part of the manager: it answers an instance that claims its secrets.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use runner_manager_core::Secret;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Failure;

/// Answers one claim, on this machine's loopback, until dropped.
pub(crate) struct Desk {
    port: u16,
    claims: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Held {
    nonce: Secret,
    answer: Secret,
    claims: Arc<AtomicUsize>,
}

impl Desk {
    /// Holds an answer for whoever shows the nonce.
    pub(crate) async fn open(nonce: Secret, answer: Secret) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("cannot answer claims: {e}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let claims = Arc::new(AtomicUsize::new(0));
        let held = Held {
            nonce,
            answer,
            claims: claims.clone(),
        };
        let routes = Router::new().route("/runner/{name}/claim", post(claim));
        let task = tokio::spawn(async move {
            // It ends with the desk.
            let _ = axum::serve(listener, routes.with_state(held)).await;
        });
        Ok(Self { port, claims, task })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// How often the secrets were claimed with the nonce.
    pub(crate) fn claims(&self) -> usize {
        self.claims.load(Ordering::SeqCst)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Hands the answer out once.
async fn claim(State(held): State<Held>, headers: HeaderMap) -> Result<String, StatusCode> {
    let shown = headers.get(AUTHORIZATION).and_then(|h| h.to_str().ok());
    let shown = shown.and_then(|h| h.strip_prefix("Bearer "));
    if shown != Some(held.nonce.expose()) {
        return Err(StatusCode::FORBIDDEN);
    }
    match held.claims.fetch_add(1, Ordering::SeqCst) {
        0 => Ok(held.answer.expose().to_owned()),
        _ => Err(StatusCode::FORBIDDEN),
    }
}
