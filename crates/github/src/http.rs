//! The transport over HTTP: TLS, proxy, size limits.

use std::error::Error as _;
use std::path::Path;

use futures::FutureExt;
use futures::future::BoxFuture;
use reqwest::{Certificate, Client, Proxy, redirect};
use runner_manager_core::{Error, ErrorKind, Result};
use url::Url;

use crate::GitHubConfig;
use crate::text::address;
use crate::transport::{Request, Response, Transport, TransportError};
use crate::urls::is_loopback;

/// The largest body that is read.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Sends requests over HTTP.
pub(crate) struct HttpTransport(Client);

impl HttpTransport {
    /// Reads the CA bundle, a small local file.
    pub(crate) fn new(config: &GitHubConfig) -> Result<Self> {
        build(config).map(Self)
    }
}

impl Transport for HttpTransport {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        let mut sent = self.0.request(request.method, request.url);
        sent = sent.headers(request.headers);
        if !request.body.is_empty() {
            sent = sent.body(request.body);
        }
        async move { read(sent.send().await.map_err(broken)?).await }.boxed()
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }
}

async fn read(mut response: reqwest::Response) -> Result<Response, TransportError> {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(TransportError::lasting(Error::new(
                ErrorKind::BadAnswer,
                "the answer is larger than 16 MiB; check that `url` is GitHub's",
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// Tells what broke a call off.
fn broken(e: reqwest::Error) -> TransportError {
    let e = e.without_url();
    let mut causes = e.to_string();
    let mut cause = e.source();
    while let Some(inner) = cause {
        causes.push_str(&format!(" {inner}"));
        cause = inner.source();
    }
    let (kind, what, error): (_, _, fn(Error) -> TransportError) = if causes
        .contains("invalid peer certificate")
    {
        (
            ErrorKind::Unreachable,
            "the server's certificate is not trusted; give its authority as `ca_bundle`, and check the host name and the clock",
            TransportError::lasting,
        )
    } else if e.is_connect() {
        let kind = if e.is_timeout() {
            ErrorKind::TimedOut
        } else {
            ErrorKind::Unreachable
        };
        (
            kind,
            "cannot connect to GitHub; check `url`, the network, DNS and the proxy",
            TransportError::not_sent,
        )
    } else if e.is_builder() {
        (
            ErrorKind::InvalidRequest,
            "the request cannot be made; the credential may hold characters that no header takes",
            TransportError::lasting,
        )
    } else {
        (
            ErrorKind::Unreachable,
            "the connection to GitHub broke off",
            TransportError::unanswered,
        )
    };
    error(Error::new(kind, what).with_source(e))
}
fn build(config: &GitHubConfig) -> Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("runner-manager/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(config.connect_timeout)
        // Redirects are followed by hand, for reads only and within one host.
        .redirect(redirect::Policy::none())
        // Repeats are decided by this crate alone.
        .retry(reqwest::retry::never());
    match &config.proxy {
        Some(proxy) => builder = builder.proxy(make_proxy(proxy)?),
        None if is_loopback(&config.url) => builder = builder.no_proxy(),
        None => {}
    }
    match &config.ca_bundle {
        Some(file) => builder = builder.tls_certs_merge(read_bundle(file)?),
        // Without TLS no roots are needed, and a machine without any must work too.
        None if plain(&config.url) && config.proxy.as_ref().is_none_or(plain) => {
            builder = builder.tls_certs_only([]);
        }
        None => {}
    }
    builder.build().map_err(|e| {
        let error = Error::new(
            ErrorKind::InvalidConfig,
            "cannot set up TLS; install the system's CA certificates or give a PEM file as `ca_bundle`",
        );
        let error = match &config.ca_bundle {
            Some(file) => error.with_context("ca_bundle", file.display()),
            None => error,
        };
        error.with_source(e.without_url())
    })
}

fn plain(url: &Url) -> bool {
    url.scheme() != "https"
}

fn make_proxy(proxy: &Url) -> Result<Proxy> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::InvalidConfig, why.to_owned()).with_context("proxy", address(proxy))
    };
    if !matches!(proxy.scheme(), "http" | "https" | "socks5" | "socks5h") {
        return Err(refuse(
            "the proxy's scheme is not known; use http, https, socks5 or socks5h",
        ));
    }
    if proxy.host_str().is_none_or(str::is_empty) {
        return Err(refuse("the proxy's URL has no host"));
    }
    Proxy::all(proxy.clone())
        .map_err(|e| refuse("the proxy's URL cannot be used").with_source(e.without_url()))
}

fn read_bundle(file: &Path) -> Result<Vec<Certificate>> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::InvalidConfig, why.to_owned())
            .with_context("ca_bundle", file.display())
    };
    let pem =
        std::fs::read(file).map_err(|e| refuse("cannot read the CA bundle").with_source(e))?;
    let certificates = Certificate::from_pem_bundle(&pem)
        .map_err(|e| refuse("the CA bundle is not valid PEM").with_source(e.without_url()))?;
    if certificates.is_empty() {
        return Err(refuse(
            "the CA bundle holds no certificate; it must be PEM with `BEGIN CERTIFICATE` blocks",
        ));
    }
    Ok(certificates)
}
