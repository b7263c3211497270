//! TLS for instances: rustls, with the certificate of the configuration.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use runner_manager_core::{Error, ErrorKind, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many handshakes go on at once, and how many connections wait to be served.
const AT_ONCE: usize = 256;

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with those between it and its authority behind it.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl TlsFiles {
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor> {
        let failed = |what: &str, file: &Path| {
            Error::new(ErrorKind::InvalidConfig, format!("cannot use the {what}"))
                .with_context("file", file.display())
        };
        let certificate = |e| failed("certificate", &self.certificate).with_source(e);
        let chain = CertificateDer::pem_file_iter(&self.certificate).map_err(certificate)?;
        let chain = chain.collect::<std::result::Result<Vec<_>, _>>();
        let chain = chain.map_err(certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|e| failed("private key", &self.key).with_source(e))?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.and_then(|c| c.with_no_client_auth().with_single_cert(chain, key));
        let config = config
            .map_err(|e| failed("certificate with its key", &self.certificate).with_source(e))?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

type Accepted = (TlsStream<TcpStream>, SocketAddr);

/// Connections after their handshake. Handshakes go on beside each other, so that a slow one
/// holds up nobody.
pub(crate) struct TlsListener {
    accepted: mpsc::Receiver<Accepted>,
    address: io::Result<SocketAddr>,
    task: JoinHandle<()>,
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, acceptor: TlsAcceptor) -> Self {
        let (done, accepted) = mpsc::channel(AT_ONCE);
        Self {
            accepted,
            address: listener.local_addr(),
            task: tokio::spawn(accept(listener, acceptor, done)),
        }
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(mut listener: TcpListener, acceptor: TlsAcceptor, done: mpsc::Sender<Accepted>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        // Axum's own way to accept, which rests after an error.
        let (stream, peer) = Listener::accept(&mut listener).await;
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let (acceptor, done) = (acceptor.clone(), done.clone());
        tokio::spawn(async move {
            let _slot = slot;
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                // Nobody takes it any more when the server has ended.
                Ok(Ok(stream)) => drop(done.send((stream, peer)).await),
                Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The accepting task ends with this listener only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(error) => Err(error.kind().into()),
        }
    }
}
