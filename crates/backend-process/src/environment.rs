//! The environment of a runner, built from nothing.

use std::collections::BTreeMap;
use std::path::Path;

use runner_manager_core::{Error, ErrorKind, Result, RunnerName, SupportServiceConfig};

use crate::scan::MARKER;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Refuses the services that a process cannot be given.
pub(crate) fn refuse_unsupported(support: &SupportServiceConfig) -> Result<()> {
    let refuse = |message: &str| Err(Error::new(ErrorKind::Unsupported, message));
    if support
        .proxy_config
        .as_ref()
        .is_some_and(|proxy| proxy.transparent)
    {
        return refuse(
            "a process has no network of its own to redirect; set `transparent` to false",
        );
    }
    if support.repo_policy_compliance.is_some() {
        return refuse(
            "a process asks no repository policy service before its job; remove `repo_policy`, or \
             choose a backend whose instances boot by cloud-init",
        );
    }
    Ok(())
}

/// All variables of a runner. `extra` wins over what is set for every runner.
pub(crate) fn build(
    folder: &Path,
    name: &RunnerName,
    user: &str,
    marker: &str,
    support: &SupportServiceConfig,
    extra: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let path = |file: &str| folder.join(file).display().to_string();
    let mut env = BTreeMap::new();
    let mut set = |key: &str, value: String| env.insert(key.to_owned(), value);
    set("PATH", PATH.into());
    set("LANG", "C.UTF-8".into());
    set("SHELL", "/bin/sh".into());
    set("HOME", path("home"));
    set("USER", user.into());
    set("LOGNAME", user.into());
    set(MARKER, marker.into());
    set("RUNNER_MANAGER_EXCHANGE", path(crate::exchange::FOLDER));
    set("ACTIONS_RUNNER_HOOK_JOB_STARTED", path("pre-job.sh"));
    if let Some(proxy) = &support.proxy_config {
        let urls = [("http_proxy", &proxy.http), ("https_proxy", &proxy.https)];
        for (key, url) in urls
            .into_iter()
            .filter_map(|(k, url)| Some((k, url.as_ref()?)))
        {
            set(key, url.to_string());
            set(&key.to_ascii_uppercase(), url.to_string());
        }
        if !proxy.no_proxy.is_empty() {
            set("no_proxy", proxy.no_proxy.join(","));
            set("NO_PROXY", proxy.no_proxy.join(","));
        }
    }
    if let Some(mirror) = &support.dockerhub_mirror {
        set("DOCKERHUB_MIRROR", mirror.to_string());
        set("CONTAINER_REGISTRY_URL", mirror.to_string());
    }
    if let Some(server) = support.ssh_debug_connection(name) {
        set("TMATE_SERVER_HOST", server.host.clone());
        set("TMATE_SERVER_PORT", server.port.to_string());
        set(
            "TMATE_SERVER_RSA_FINGERPRINT",
            server.rsa_fingerprint.clone(),
        );
        set(
            "TMATE_SERVER_ED25519_FINGERPRINT",
            server.ed25519_fingerprint.clone(),
        );
    }
    env.extend(
        extra
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    env
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_manager_core::{ProxyConfig, RepoPolicyCompliance, Secret, SshDebugConnection};

    #[test]
    fn services_become_variables() {
        let support = SupportServiceConfig {
            proxy_config: Some(ProxyConfig {
                http: Some("http://proxy:3128/".parse().unwrap()),
                https: None,
                no_proxy: vec!["localhost".into(), ".example".into()],
                transparent: false,
            }),
            dockerhub_mirror: Some("https://mirror/".parse().unwrap()),
            ssh_debug_connections: vec![SshDebugConnection {
                host: "tmate".into(),
                port: 10022,
                rsa_fingerprint: "SHA256:a".into(),
                ed25519_fingerprint: "SHA256:b".into(),
            }],
            repo_policy_compliance: None,
        };
        refuse_unsupported(&support).unwrap();
        let name = "app-0123456789ab".parse().unwrap();
        let extra = BTreeMap::from([("PATH".to_owned(), "/opt/bin".to_owned())]);
        let env = build(Path::new("/w/a"), &name, "runner", "r/a", &support, &extra);
        for (key, value) in [
            ("HTTP_PROXY", "http://proxy:3128/"),
            ("no_proxy", "localhost,.example"),
            ("DOCKERHUB_MIRROR", "https://mirror/"),
            ("TMATE_SERVER_PORT", "10022"),
            ("HOME", "/w/a/home"),
            ("PATH", "/opt/bin"),
        ] {
            assert_eq!(env.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert!(!env.contains_key("https_proxy"));
        let transparent = SupportServiceConfig {
            proxy_config: Some(ProxyConfig {
                http: None,
                https: None,
                no_proxy: Vec::new(),
                transparent: true,
            }),
            ..SupportServiceConfig::default()
        };
        let policy = SupportServiceConfig {
            repo_policy_compliance: Some(RepoPolicyCompliance {
                url: "https://policy.example/".parse().unwrap(),
                token: Secret::new("token"),
            }),
            ..SupportServiceConfig::default()
        };
        for (asked, key) in [(transparent, "`transparent`"), (policy, "`repo_policy`")] {
            let error = refuse_unsupported(&asked).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
