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
use runner_manager_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

/// What a server bears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many connections are open at once; further ones wait to be accepted.
    pub(crate) connections: usize,
    /// How many of them come from one address (of IPv6: from one network of 64 bits); further ones
    /// are closed at once. Those of this machine are not counted: a proxy on it brings those of all
    /// others.
    pub(crate) of_one_peer: usize,
    /// How long a connection may take until the head of its next request is there, a TLS handshake
    /// before it, and how long it may take nothing of an answer.
    pub(crate) head: Duration,
    /// How long a request may take until its answer begins, with its body.
    pub(crate) request: Duration,
}

/// A server at work until it is dropped.
pub(crate) struct HttpServer {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    /// Listens for `whom`, as a section of the configuration says, and serves; over TLS where there
    /// is an acceptor.
    ///
    /// # Errors
    /// [`ErrorKind::Local`] when the address cannot be had.
    pub(crate) async fn start(
        (whom, section): (&str, &str),
        listen: SocketAddr,
        acceptor: Option<TlsAcceptor>,
        router: Router,
        limits: Limits,
    ) -> Result<Self> {
        let failed = |e: std::io::Error| {
            let message = format!(
                "cannot listen for {whom}; choose another `listen` in `[{section}]`, or stop what uses it"
            );
            Error::new(ErrorKind::Local, message)
                .with_context("address", listen)
                .with_source(e)
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let task = tokio::spawn(serve(listener, acceptor, router, limits));
        Ok(Self { address, task })
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How many connections each address has open.
#[derive(Debug, Default)]
struct Peers(Mutex<HashMap<u128, usize>>);

/// One connection's place among those of its address.
struct Place {
    peers: Arc<Peers>,
    network: u128,
}

/// What counts as one address.
fn network_of(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

impl Peers {
    fn place(self: &Arc<Self>, ip: IpAddr, limit: usize) -> Option<Place> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network_of(ip);
        let open = peers.entry(network).or_default();
        if *open >= limit && !ip.to_canonical().is_loopback() {
            return None;
        }
        *open += 1;
        let peers = self.clone();
        Some(Place { peers, network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = peers.get_mut(&self.network) {
            *open -= 1;
            if *open == 0 {
                peers.remove(&self.network);
            }
        }
    }
}

/// Serves until it is dropped, and its connections with it; over TLS where there is an acceptor.
/// Handlers find the other side's address as `ConnectInfo<SocketAddr>`.
async fn serve<L>(mut listener: L, acceptor: Option<TlsAcceptor>, router: Router, limits: Limits)
where
    L: Listener<Io = TcpStream, Addr = SocketAddr>,
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
            tracing::debug!(%peer, "too many connections of one address; this one was closed");
            continue;
        };
        let (router, acceptor) = (router.clone(), acceptor.clone());
        connections.spawn(async move {
            let _held = (slot, place);
            let mut io = TimeoutStream::new(io);
            io.set_write_timeout(Some(limits.head));
            let io = Box::pin(io);
            let Some(acceptor) = acceptor else {
                return converse(io, router, peer, limits).await;
            };
            match tokio::time::timeout(limits.head, acceptor.accept(io)).await {
                Ok(Ok(io)) => converse(io, router, peer, limits).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
    }
}

/// Answers the requests of one connection, one after the other.
async fn converse(
    io: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    peer: SocketAddr,
    limits: Limits,
) {
    let answer = service_fn(move |request| answer(router.clone(), request, peer, limits));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(io), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%peer, %error, "a connection ended");
    }
}

async fn answer(
    router: Router,
    request: hyper::Request<Incoming>,
    peer: SocketAddr,
    limits: Limits,
) -> std::result::Result<Response, std::convert::Infallible> {
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

    /// As long as no answer is taken whole by the buffers between.
    const LONG: usize = 64 * 1024 * 1024;

    async fn start(limits: Limits) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let who =
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() });
        let router = Router::new()
            .route("/", who)
            .route("/long", get(|| async { "x".repeat(LONG) }))
            .route("/body", post(|body: String| async move { body }));
        let server = serve(Elsewhere(listener), None, router, limits);
        (address, tokio::spawn(server))
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

    const WHOLE: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test]
    async fn what_is_slow_is_ended() {
        let (address, _server) = start(LIMITS).await;
        let begun = Instant::now();
        assert_eq!(
            rest(send(address, "GET / HTTP/1.1\r\nhost:").await).await,
            ""
        );
        assert!(begun.elapsed() >= LIMITS.head, "half a head");
        // It stays open for the next request, and no longer than a head may take.
        let begun = Instant::now();
        let answer = rest(send(address, WHOLE).await).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("192.0.2.1"),
            "{answer}"
        );
        assert!(begun.elapsed() >= LIMITS.head, "an idle connection");
        let half = "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf";
        let answer = rest(send(address, half).await).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }

    #[tokio::test]
    async fn who_takes_nothing_of_an_answer_is_not_waited_for() {
        let narrow = Limits {
            connections: 1,
            ..LIMITS
        };
        let (address, _server) = start(narrow).await;
        let deaf = send(address, "GET /long HTTP/1.1\r\nhost: a\r\n\r\n").await;
        // The next one's turn comes when that has ended.
        let next = rest(send(address, WHOLE).await).await;
        assert!(next.starts_with("HTTP/1.1 200"), "{next}");
        let taken = rest(deaf).await.len();
        assert!(taken < LONG, "{taken} bytes came");
    }

    #[tokio::test]
    async fn one_address_has_some_connections() {
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
        let begun = Instant::now();
        let closing = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        while !rest(send(address, closing).await)
            .await
            .starts_with("HTTP/1.1 200")
        {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "no place is free again"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.abort();
        assert_eq!(rest(two).await, "", "connections end with the server");
    }

    #[tokio::test]
    async fn beyond_the_limit_of_all_the_next_one_waits() {
        let narrow = Limits {
            connections: 1,
            ..LIMITS
        };
        let (address, _server) = start(narrow).await;
        let begun = Instant::now();
        let first = send(address, "GET").await;
        let second = send(address, WHOLE).await;
        let (first, second) = tokio::join!(rest(first), rest(second));
        assert_eq!(first, "");
        assert!(second.starts_with("HTTP/1.1 200"), "{second}");
        // The first one's head, and the second one's next.
        assert!(begun.elapsed() >= LIMITS.head * 2);
    }

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let network = |text: &str| network_of(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
