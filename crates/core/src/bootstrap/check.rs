//! What may enter user-data.

use url::{Host, Url};

use super::reveal::has_credentials;
use super::{BootConfig, PartKind, RunnerFolder};
use crate::{Error, ErrorKind, LaunchSpec, ProxyConfig, Result, RunnerCredential, Secret};

/// Variables that a shell lets nobody set.
const READ_ONLY: [&str; 6] = [
    "BASHOPTS",
    "BASH_VERSINFO",
    "EUID",
    "PPID",
    "SHELLOPTS",
    "UID",
];

fn wrong<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::InvalidConfig, message))
}

/// Checks what is the same for all runners of a pool.
pub(super) fn config(config: &BootConfig) -> Result<()> {
    let name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if config.user.is_empty() || config.user.len() > 32 || !config.user.chars().all(name) {
        return wrong("the runner's `user` needs a name of a-z, 0-9, `-` and `_`");
    }
    for (key, path) in [("home", &config.home), ("runner.path", &config.runner.path)] {
        absolute(key, path)?;
    }
    runner(&config.runner)?;
    for (key, value) in &config.env {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let starts = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let ours = key.starts_with("RM_") || READ_ONLY.contains(&key.as_str());
        if !starts || !key.chars().all(inner) || ours {
            return wrong(format!("`env` cannot set the variable {key:?}; rename it"));
        }
        if value.contains('\0') {
            return wrong(format!("the variable `{key}` holds a NUL character"));
        }
    }
    if config
        .pre_job_script
        .as_ref()
        .is_some_and(|s| !s.starts_with("#!"))
    {
        return wrong("`pre_job_script` must start with `#!` and its interpreter");
    }
    for certificate in &config.ca_certificates {
        let text = certificate.trim();
        if !text.starts_with("-----BEGIN CERTIFICATE-----") || !text.is_ascii() {
            return wrong("each of `ca_certificates` must be a certificate in PEM");
        }
    }
    for part in &config.extra_parts {
        let first = part.kind.first_line();
        let kind_is_kept = part.kind != PartKind::CloudConfig
            || part
                .content
                .lines()
                .next()
                .is_some_and(|l| l.trim() == first);
        if !part.content.starts_with(first) || !kind_is_kept {
            return wrong(format!(
                "an extra part of this kind must start with `{first}`"
            ));
        }
    }
    if config.aproxy.ports.is_empty() || config.aproxy.ports.contains(&0) {
        return wrong("`aproxy.ports` needs ports from 1 to 65535");
    }
    if config.aproxy.listen == 0 || config.aproxy.ports.contains(&config.aproxy.listen) {
        return wrong("`aproxy.listen` needs a port of its own");
    }
    Ok(())
}

fn absolute(key: &str, path: &str) -> Result<()> {
    let plain = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let climbs = path.split('/').any(|part| part == ".." || part == ".");
    if !path.starts_with('/') || path.len() < 2 || path.ends_with('/') || climbs || !plain {
        return wrong(format!(
            "`{key}` must be an absolute path of ASCII letters, digits and `/._-`"
        ));
    }
    Ok(())
}

fn runner(runner: &RunnerFolder) -> Result<()> {
    if let Some(version) = &runner.minimum_version {
        let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if version.split('.').count() != 3 || !version.split('.').all(number) {
            return wrong("`runner.minimum_version` must look like `2.330.0`");
        }
    }
    if let Some(download) = &runner.download {
        if !matches!(download.url.scheme(), "http" | "https") {
            return wrong("`runner.download.url` must be an `https` or `http` URL");
        }
        no_credentials("`runner.download.url`", &download.url)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if download.sha256.len() != 64 || !download.sha256.bytes().all(hex) {
            return wrong("`runner.download.sha256` must be 64 lower-case hexadecimal digits");
        }
    }
    Ok(())
}

/// Checks what is one runner's own.
pub(super) fn spec(spec: &LaunchSpec, config: &BootConfig) -> Result<()> {
    credential(match &spec.credential {
        RunnerCredential::JitConfig(secret) => secret,
        RunnerCredential::RegistrationToken { token, .. } => token,
        RunnerCredential::Claim { url, nonce } => {
            manager(url)?;
            nonce
        }
    })?;
    if let Some(policy) = &spec.support.repo_policy_compliance {
        credential(&policy.token)?;
        no_credentials("the repository policy service's URL", &policy.url)?;
    }
    let group = spec.github.github_path.group().unwrap_or_default();
    if group.contains('\0') {
        return wrong("the runner group's name holds a NUL character");
    }
    proxy(spec.support.proxy_config.as_ref(), config)
}

/// Where a nonce goes: encrypted, or to this very machine.
fn manager(url: &Url) -> Result<()> {
    let local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return wrong("the callback URL must be `https`");
    }
    no_credentials("the callback URL", url)
}

fn no_credentials(what: &str, url: &Url) -> Result<()> {
    if has_credentials(url) {
        return wrong(format!("{what} must hold no user name and no password"));
    }
    Ok(())
}

/// A credential travels on a line of its own, or in a header.
pub(super) fn credential(secret: &Secret) -> Result<()> {
    let text = secret.expose();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::new(
            ErrorKind::InvalidRequest,
            "the credential is empty, or holds what no credential does; ask for another",
        ));
    }
    Ok(())
}

fn proxy(proxy: Option<&ProxyConfig>, config: &BootConfig) -> Result<()> {
    let Some(proxy) = proxy else { return Ok(()) };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:/*[]".contains(c);
    if let Some(bad) = proxy.no_proxy.iter().find(|e| !e.chars().all(plain)) {
        return wrong(format!(
            "`no_proxy` holds {bad:?}, which is no host and no network"
        ));
    }
    for url in [&proxy.http, &proxy.https].into_iter().flatten() {
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return wrong("a proxy must be an `http` or `https` URL with a host");
        }
    }
    if !proxy.transparent {
        return Ok(());
    }
    let Some(url) = super::aproxy::upstream(proxy) else {
        return wrong("transparent proxying needs the `http` proxy");
    };
    if has_credentials(url) || url.scheme() != "http" {
        return wrong("transparent proxying takes a plain `http` proxy without credentials");
    }
    let port = url.port_or_known_default().unwrap_or(80);
    let by_address = matches!(url.host(), Some(Host::Ipv4(_)));
    if config.aproxy.ports.contains(&port) && !by_address {
        return wrong(format!(
            "the proxy's own port {port} would be redirected to itself; give the proxy by IPv4 \
             address, or leave the port out of `aproxy.ports`"
        ));
    }
    Ok(())
}
