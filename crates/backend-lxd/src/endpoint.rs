//! How the server is reached: a unix socket, or HTTPS with a client's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::ClientBuilder;
use runner_manager_core::{Error, ErrorKind, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use url::Url;

use crate::config::{LxdConfig, Tls, invalid};

/// Where a server listens when the configuration does not say.
const SOCKETS: [&str; 3] = [
    "/var/lib/incus/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/lxd/unix.socket",
];

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// A way to the server.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) http: reqwest::Client,
    /// What paths are added to.
    pub(crate) base: Url,
    /// The socket, where there is one.
    pub(crate) socket: Option<PathBuf>,
}

/// What a unix socket's requests are addressed to; the name does not matter.
fn socket_base() -> Result<Url> {
    Url::parse("http://lxd/").map_err(|error| {
        Error::new(ErrorKind::Unexpected, "cannot build the server's address").with_source(error)
    })
}

impl Endpoint {
    /// Reads what the configuration names; opens nothing yet. Blocking, for files.
    pub(crate) fn new(config: &LxdConfig) -> Result<Self> {
        let builder = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(Duration::from_secs(30));
        let (builder, base, socket) = match &config.tls {
            Some(tls) => (with_tls(builder, tls)?, tls.url.clone(), None),
            None => {
                let socket = find_socket(config.socket.as_deref())?;
                // LXD takes the next connection of its socket only when the one before has sent its
                // first bytes. A client that pools connections opens some that it then does not
                // use, and every start of an instance would wait for them.
                let builder = builder.pool_max_idle_per_host(0);
                (
                    builder.unix_socket(socket.clone()),
                    socket_base()?,
                    Some(socket),
                )
            }
        };
        let http = builder.build().map_err(|error| {
            Error::new(ErrorKind::Local, "cannot set up HTTP").with_source(error)
        })?;
        Ok(Self { http, base, socket })
    }

    /// The server, for messages.
    pub(crate) fn address(&self) -> String {
        match &self.socket {
            Some(socket) => socket.display().to_string(),
            None => self.base.to_string(),
        }
    }
}

fn find_socket(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let found = SOCKETS.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        let places = SOCKETS.join(", ");
        let message = format!("is missing, and none of {places} exists; set it, or `tls`");
        invalid("socket", message)
    })
}

/// Sets up TLS: who this client is, and whom it trusts.
fn with_tls(builder: ClientBuilder, tls: &Tls) -> Result<ClientBuilder> {
    if tls.url.scheme() != "https" || tls.url.host().is_none() {
        return Err(invalid("tls.url", "must be an `https` URL with a host"));
    }
    let chain = certificates("tls.client_certificate", &tls.client_certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.client_key)
        .map_err(|error| unreadable("tls.client_key", &tls.client_key, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let wrong = |error: rustls::Error| {
        invalid("tls.client_key", "does not fit the certificate").with_source(error)
    };
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?;
    let config = match &tls.server_certificate {
        Some(path) => {
            let trusted = certificates("tls.server_certificate", path)?;
            let verifier = Pinned::new(trusted, provider)
                .map_err(|error| unreadable("tls.server_certificate", path, error))?;
            config
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
        None => config.with_root_certificates(system_roots()?),
    };
    let config = config.with_client_auth_cert(chain, key).map_err(wrong)?;
    Ok(builder.tls_backend_preconfigured(config))
}

fn system_roots() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let message = "is missing, and this machine trusts no certificate authority; set it";
        return Err(invalid("tls.server_certificate", message));
    }
    Ok(roots)
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(invalid(key, "names a file without a certificate in PEM")
            .with_context("file", path.display())),
        Err(error) => Err(unreadable(key, path, error)),
    }
}

fn unreadable(
    key: &str,
    path: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    invalid(key, "names a file that cannot be used")
        .with_context("file", path.display())
        .with_source(error)
}

/// Takes the very certificate that was pinned, which names whatever hosts the server made it
/// for, or one that a pinned authority signed for this host.
#[derive(Debug)]
struct Pinned {
    certificates: Vec<CertificateDer<'static>>,
    authority: Arc<WebPkiServerVerifier>,
}

impl Pinned {
    fn new(
        certificates: Vec<CertificateDer<'static>>,
        provider: Arc<rustls::crypto::CryptoProvider>,
    ) -> std::result::Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone())?;
        }
        let authority = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self {
            certificates,
            authority,
        })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if self.certificates.iter().any(|pinned| pinned == certificate) {
            return Ok(ServerCertVerified::assertion());
        }
        self.authority
            .verify_server_cert(certificate, chain, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.authority
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.authority
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

    /// A pool of connections opens one more for a request that then takes another, which was free
    /// first. So a client of the socket has none.
    #[tokio::test]
    async fn each_request_to_a_socket_has_its_own_connection() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("unix.socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let config = json!({"socket": socket, "image": {"alias": "x"}});
        let endpoint = Endpoint::new(&serde_json::from_value(config).unwrap()).unwrap();
        for _ in 0..2 {
            let asked = endpoint.http.get(endpoint.base.clone()).send();
            let served = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                stream.write_all(ANSWER).await.unwrap();
                stream
            };
            let both = async { tokio::join!(asked, served) };
            let (answer, _open) = tokio::time::timeout(CONNECT, both).await.unwrap();
            assert_eq!(answer.unwrap().text().await.unwrap(), "{}");
        }
    }
}
