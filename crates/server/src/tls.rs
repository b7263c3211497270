//! TLS for instances: rustls, with the certificate of the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_manager_core::{Error, ErrorKind, Result};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

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
