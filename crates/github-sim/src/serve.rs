//! The server's loop: connections, faults, the log of exchanges.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::IF_NONE_MATCH;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api;
use crate::core::Shared;
use crate::exchanges::Exchange;
use crate::fault::{self, FaultAction};

/// The most connections at once; more wait.
const MAX_CONNECTIONS: usize = 4_096;
/// How long a client may take to send a request's head.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Routes = TowerToHyperService<Router>;

/// Serves until dropped; the connections end with it.
pub(crate) async fn serve(core: Shared, listener: TcpListener, router: Router) {
    let routes = TowerToHyperService::new(router);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (core, routes) = (core.clone(), routes.clone());
        connections.spawn(async move {
            connection(core, routes, stream).await;
            drop(slot);
        });
    }
}

async fn connection(core: Shared, routes: Routes, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| handle(core.clone(), routes.clone(), request));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::trace!(%error, "a connection ended early");
    }
}

async fn handle(
    core: Shared,
    routes: Routes,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    // Without an answer hyper closes the connection.
    answer(&core, routes, request.map(Body::new))
        .await
        .ok_or_else(|| io::Error::other("dropped as the test asked for"))
}

/// Handles a request as the faults have it; none when the connection is to be dropped.
pub(crate) async fn answer(
    core: &Shared,
    routes: Routes,
    request: Request<Body>,
) -> Option<Response<Body>> {
    let method = request.method().as_str().to_owned();
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    let path = path.to_owned();
    let at = core.now();
    let answer = faulty(core, routes, request, &method, &path).await;
    core.exchanges.push(Exchange {
        at,
        method,
        path,
        status: answer.as_ref().map(|answer| answer.status().as_u16()),
    });
    answer
}

async fn faulty(
    core: &Shared,
    routes: Routes,
    request: Request<Body>,
    method: &str,
    path: &str,
) -> Option<Response<Body>> {
    match core.faults.take(method, path) {
        // `take` turns the last two into statuses.
        None | Some(FaultAction::Outage { .. } | FaultAction::Throttled { .. }) => {
            Some(route(routes, request).await)
        }
        Some(FaultAction::Status {
            status,
            headers,
            body,
        }) => Some(fault::answer(status, &headers, body.as_ref())),
        Some(FaultAction::Html { status }) => Some(fault::html(status)),
        Some(FaultAction::Latency(milliseconds)) => {
            tokio::time::sleep(fault::latency(milliseconds)).await;
            Some(route(routes, request).await)
        }
        Some(FaultAction::DropConnection) => None,
        Some(FaultAction::DropAfterEffect) => {
            route(routes, request).await;
            None
        }
        Some(FaultAction::ByteOrderMark) => Some(fault::marked(route(routes, request).await).await),
        Some(FaultAction::Edit(edits)) => {
            let mut request = request;
            // An unchanged answer has no parts.
            request.headers_mut().remove(IF_NONE_MATCH);
            Some(fault::edited(route(routes, request).await, &edits).await)
        }
        Some(FaultAction::TokenRefused) => Some(api::token_refused()),
        Some(FaultAction::EndSession) => {
            if let Some(session) = api::parameter(request.uri(), "sessionId") {
                core.state().end_session(&session);
            }
            Some(route(routes, request).await)
        }
    }
}

async fn route(routes: Routes, request: Request<Body>) -> Response<Body> {
    match routes.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
