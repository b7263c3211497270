//! Serving HTTP at an address that others reach: jobs too, where instances call. What one of them
//! holds open must not use up the files of the manager, nor keep the others from their turn.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// What a server bears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many connections are open at once; further ones wait to be accepted.
    pub(crate) connections: usize,
    /// How many of them come from one address; further ones are closed at once. Those of this
    /// machine are not counted: a proxy on it brings those of all others.
    pub(crate) of_one_peer: usize,
    /// How long a connection may take until the head of its next request is there.
    pub(crate) head: Duration,
    /// How long a request may take, with its body and its answer.
    pub(crate) request: Duration,
}

/// How many connections each address has open.
#[derive(Debug, Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place among those of its address.
struct Place {
    peers: Arc<Peers>,
    ip: IpAddr,
}

impl Peers {
    fn place(self: &Arc<Self>, ip: IpAddr, limit: usize) -> Option<Place> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = peers.entry(ip).or_default();
        if *open >= limit && !ip.to_canonical().is_loopback() {
            return None;
        }
        *open += 1;
        let peers = self.clone();
        Some(Place { peers, ip })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = peers.get_mut(&self.ip) {
            *open -= 1;
            if *open == 0 {
                peers.remove(&self.ip);
            }
        }
    }
}

/// Serves until it is dropped, and its connections with it. Handlers find the other side's address
/// as `ConnectInfo<SocketAddr>`.
pub(crate) async fn serve<L>(mut listener: L, router: Router, limits: Limits)
where
    L: Listener<Addr = SocketAddr>,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let peers = Arc::new(Peers::default());
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let (io, peer) = listener.accept().await;
        while connections.try_join_next().is_some() {}
        let Some(place) = peers.place(peer.ip(), limits.of_one_peer) else {
            tracing::warn!(peer = %peer.ip(), "too many connections of one address; one was closed");
            continue;
        };
        let router = router.clone();
        connections.spawn(async move {
            let _held = (slot, place);
            let answer = service_fn(move |request| answer(router.clone(), request, peer, limits));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head)
                .serve_connection(TokioIo::new(io), answer);
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "a connection ended");
            }
        });
    }
}

async fn answer(
    router: Router,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    limits: Limits,
) -> Result<Response, std::convert::Infallible> {
    let mut request: Request = request.map(axum::body::Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    match tokio::time::timeout(limits.request, router.oneshot(request)).await {
        Ok(answer) => answer,
        Err(_) => Ok(StatusCode::REQUEST_TIMEOUT.into_response()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;

    /// An address of this machine that is no loopback address as far as [`Peers`] is concerned.
    struct Elsewhere(TcpListener);

    impl Listener for Elsewhere {
        type Io = TcpStream;
        type Addr = SocketAddr;

        async fn accept(&mut self) -> (TcpStream, SocketAddr) {
            let (stream, peer) = Listener::accept(&mut self.0).await;
            (stream, SocketAddr::new([192, 0, 2, 1].into(), peer.port()))
        }

        fn local_addr(&self) -> std::io::Result<SocketAddr> {
            self.0.local_addr()
        }
    }

    const LIMITS: Limits = Limits {
        connections: 3,
        of_one_peer: 2,
        head: Duration::from_secs(1),
        request: Duration::from_secs(1),
    };

    async fn start(limits: Limits) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router =
            Router::new()
                .route(
                    "/",
                    get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
                        peer.ip().to_string()
                    }),
                )
                .route("/body", post(|body: String| async move { body }));
        (
            address,
            tokio::spawn(serve(Elsewhere(listener), router, limits)),
        )
    }

    async fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(text.as_bytes()).await.expect("a request");
        stream
    }

    /// All that comes until the other side closes.
    async fn rest(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut bytes));
        // A reset is an end, too.
        let _ = read.await.expect("an end in time");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[tokio::test]
    async fn what_is_slow_is_ended() {
        let (address, _server) = start(LIMITS).await;
        let begun = Instant::now();
        let whole = send(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let half = send(address, "GET / HTTP/1.1\r\nhost:").await;
        assert_eq!(rest(half).await, "");
        // It stays open for the next request, and no longer than a head may take.
        let answer = rest(whole).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("192.0.2.1"),
            "{answer}"
        );
        let body = send(
            address,
            "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf",
        )
        .await;
        let answer = rest(body).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(begun.elapsed() >= LIMITS.head);
    }

    #[tokio::test]
    async fn one_address_has_some_connections_and_the_server_some_more() {
        let patient = Limits {
            head: Duration::from_secs(60),
            ..LIMITS
        };
        let (address, server) = start(patient).await;
        let one = send(address, "GET").await;
        let two = send(address, "GET").await;
        assert_eq!(
            rest(send(address, "GET").await).await,
            "",
            "a third one is closed"
        );
        drop(one);
        // Its end may not have been seen yet.
        let mut answered = false;
        for _ in 0..100 {
            let mut next = send(
                address,
                "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            )
            .await;
            let mut text = String::new();
            answered =
                next.read_to_string(&mut text).await.is_ok() && text.starts_with("HTTP/1.1 200");
            if answered {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(answered, "a place is free again");
        server.abort();
        assert_eq!(rest(two).await, "", "connections end with the server");
    }
}
