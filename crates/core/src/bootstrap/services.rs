//! Files for the services around a runner. One that holds a password is private.

use std::fmt::Write;

use serde_json::json;
use url::Url;

use super::environment::proxy_variables;
use super::files::{BootFile, file};
use super::reveal::{Reveal, has_credentials};
use crate::{LaunchSpec, ProxyConfig, RunnerCredential, SupportServiceConfig};

/// Whether the proxies reach the instance after cloud-init has looked for its own: they hold a
/// password, and are claimed.
pub(super) fn are_late(spec: &LaunchSpec) -> bool {
    let claims = matches!(spec.credential, RunnerCredential::Claim { .. });
    claims && spec.support.proxy_config.as_ref().is_some_and(is_private)
}

/// Whether any of the proxies has a password.
pub(super) fn is_private(proxy: &ProxyConfig) -> bool {
    let mut urls = [&proxy.http, &proxy.https].into_iter().flatten();
    urls.any(has_credentials)
}

/// The files that anybody may see.
pub(super) fn public(support: &SupportServiceConfig) -> Vec<BootFile> {
    let mirror = support.dockerhub_mirror.as_ref();
    let proxy = support.proxy_config.as_ref();
    of(
        mirror.filter(|url| !has_credentials(url)),
        proxy.filter(|proxy| !is_private(proxy)),
        Reveal::Secrets,
    )
}

/// The others.
pub(super) fn private(support: &SupportServiceConfig, reveal: Reveal) -> Vec<BootFile> {
    let mirror = support.dockerhub_mirror.as_ref();
    let proxy = support.proxy_config.as_ref().filter(|p| is_private(p));
    let mut files = of(mirror.filter(|url| has_credentials(url)), proxy, reveal);
    files.extend(proxy.map(|proxy| file("apt.conf", "0600", apt(proxy, reveal))));
    files
}

fn of(mirror: Option<&Url>, proxy: Option<&ProxyConfig>, reveal: Reveal) -> Vec<BootFile> {
    let mut files = Vec::new();
    if let Some(mirror) = mirror {
        let daemon = json!({"registry-mirrors": [reveal.url(mirror)]});
        files.push(file("docker-daemon.json", "0600", format!("{daemon}\n")));
    }
    // Docker needs to be told nothing of a proxy that it does not see.
    if let Some(proxy) = proxy.filter(|proxy| !proxy.transparent) {
        files.extend(docker_proxy(proxy, reveal));
    }
    files
}

/// The proxies for apt. Its strings end at a quote, which no URL holds.
fn apt(proxy: &ProxyConfig, reveal: Reveal) -> String {
    let mut text = String::new();
    for (scheme, url) in [("http", &proxy.http), ("https", &proxy.https)] {
        if let Some(url) = url {
            let url = reveal.url(url);
            let _ = writeln!(text, "Acquire::{scheme}::Proxy \"{url}\";");
        }
    }
    text
}

/// The proxies for the Docker daemon, and for the containers that its clients start.
fn docker_proxy(proxy: &ProxyConfig, reveal: Reveal) -> [BootFile; 2] {
    let mut unit = String::from("[Service]\n");
    let mut client = serde_json::Map::new();
    for (key, value) in proxy_variables(proxy, reveal) {
        // Systemd expands `%` and reads `\` and `"` as its own.
        let plain = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('%', "%%");
        let _ = writeln!(unit, "Environment=\"{}={plain}\"", key.to_ascii_uppercase());
        let key = match key {
            "http_proxy" => "httpProxy",
            "https_proxy" => "httpsProxy",
            _ => "noProxy",
        };
        client.insert(key.to_owned(), value.into());
    }
    let client = json!({"proxies": {"default": client}});
    [
        file("docker-proxy.conf", "0600", unit),
        file("docker-client.json", "0600", format!("{client}\n")),
    ]
}
