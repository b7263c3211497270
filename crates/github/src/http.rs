//! The HTTP client beneath: TLS, proxy, deadlines.

use std::path::Path;

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Proxy, redirect};
use runner_manager_core::{Error, ErrorKind, Result};
use url::Url;

use crate::GitHubConfig;
use crate::text::address;
use crate::urls::is_loopback;

/// The version of GitHub's API that this client was written for.
const API_VERSION: &str = "2022-11-28";

/// Makes the HTTP client. Reads the CA bundle, a small local file.
pub(crate) fn build(config: &GitHubConfig) -> Result<Client> {
    let mut headers = HeaderMap::new();
    headers.insert(
        ACCEPT,
        HeaderValue::from_static("application/vnd.github+json"),
    );
    headers.insert(
        "x-github-api-version",
        HeaderValue::from_static(API_VERSION),
    );
    let mut builder = Client::builder()
        .user_agent(concat!("runner-manager/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .connect_timeout(config.connect_timeout)
        .timeout(config.request_timeout)
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
