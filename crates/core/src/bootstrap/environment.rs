//! The variables of a runner.

use std::collections::BTreeMap;

use super::reveal::{Reveal, has_credentials};
use super::{BASE, BootConfig, services};
use crate::{LaunchSpec, ProxyConfig, SupportServiceConfig};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin";

/// Variables by name.
pub(super) type Variables = BTreeMap<String, String>;

/// The variables without secrets; those of the pool win.
pub(super) fn public(spec: &LaunchSpec, config: &BootConfig) -> Variables {
    let support = &spec.support;
    let mut env: Variables = [
        ("PATH", PATH.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("HOME", config.home.clone()),
        ("USER", config.user.clone()),
        ("LOGNAME", config.user.clone()),
        ("SHELL", "/bin/bash".to_owned()),
        (
            "ACTIONS_RUNNER_HOOK_JOB_STARTED",
            format!("{BASE}/pre-job.sh"),
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let proxy = visible(support).filter(|proxy| !services::is_private(proxy));
    env.extend(
        proxy
            .into_iter()
            .flat_map(|p| both_cases(p, Reveal::Secrets)),
    );
    if let Some(url) = support
        .dockerhub_mirror
        .as_ref()
        .filter(|u| !has_credentials(u))
    {
        env.extend(mirror(url.to_string()));
    }
    if let Some(server) = support.ssh_debug_connection(&spec.name) {
        for (key, value) in [
            ("HOST", server.host.clone()),
            ("PORT", server.port.to_string()),
            ("RSA_FINGERPRINT", server.rsa_fingerprint.clone()),
            ("ED25519_FINGERPRINT", server.ed25519_fingerprint.clone()),
        ] {
            env.insert(format!("TMATE_SERVER_{key}"), value);
        }
    }
    env.extend(config.env.clone());
    env
}

/// The variables that hold passwords.
pub(super) fn private(support: &SupportServiceConfig, reveal: Reveal) -> Variables {
    let proxy = visible(support).filter(|proxy| services::is_private(proxy));
    let mut env: Variables = proxy
        .into_iter()
        .flat_map(|p| both_cases(p, reveal))
        .collect();
    if let Some(url) = support
        .dockerhub_mirror
        .as_ref()
        .filter(|u| has_credentials(u))
    {
        env.extend(mirror(reveal.url(url)));
    }
    env
}

/// The proxies that programs speak to themselves.
fn visible(support: &SupportServiceConfig) -> Option<&ProxyConfig> {
    support.proxy_config.as_ref().filter(|p| !p.transparent)
}

fn both_cases(proxy: &ProxyConfig, reveal: Reveal) -> Vec<(String, String)> {
    let lower = proxy_variables(proxy, reveal).into_iter();
    lower
        .flat_map(|(key, value)| {
            [
                (key.to_ascii_uppercase(), value.clone()),
                (key.to_owned(), value),
            ]
        })
        .collect()
}

fn mirror(url: String) -> [(String, String); 2] {
    [
        ("DOCKERHUB_MIRROR".to_owned(), url.clone()),
        ("CONTAINER_REGISTRY_URL".to_owned(), url),
    ]
}

/// The proxies as variables, in lower case.
pub(super) fn proxy_variables(proxy: &ProxyConfig, reveal: Reveal) -> Vec<(&'static str, String)> {
    let urls = [("http_proxy", &proxy.http), ("https_proxy", &proxy.https)];
    let mut found: Vec<_> = urls
        .into_iter()
        .filter_map(|(key, url)| Some((key, reveal.url(url.as_ref()?))))
        .collect();
    if !proxy.no_proxy.is_empty() {
        found.push(("no_proxy", proxy.no_proxy.join(",")));
    }
    found
}
