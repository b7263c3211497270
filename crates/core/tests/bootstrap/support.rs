//! Launches to render, and user-data taken apart.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runner_manager_core::{
    BootConfig, GitHubPath, GitHubRunnerConfig, Labels, LaunchSpec, ProxyConfig,
    RepoPolicyCompliance, RunnerCredential, Secret, SshDebugConnection, SupportServiceConfig,
};
use serde_json::Value;

pub(crate) const JIT: &str = "SklULUNPTkZJRw==";
pub(crate) const PASSWORD: &str = "p%27a%22s%24(id)";

pub(crate) fn plain() -> LaunchSpec {
    LaunchSpec {
        name: "app-0123456789ab".parse().expect("a name"),
        credential: RunnerCredential::JitConfig(Secret::new(JIT)),
        github: GitHubRunnerConfig {
            github_path: GitHubPath::parse("octo", Some("builders")).expect("a path"),
            labels: Labels::parse(["self-hosted", "large"]).expect("labels"),
        },
        support: SupportServiceConfig::default(),
    }
}

/// A launch with all services, and with passwords where there may be some.
pub(crate) fn full() -> LaunchSpec {
    let url = |text: &str| text.parse().expect("a URL");
    let mut spec = plain();
    spec.support = SupportServiceConfig {
        proxy_config: Some(ProxyConfig {
            http: Some(url(&format!("http://joe:{PASSWORD}@proxy.internal:3128"))),
            https: Some(url("http://proxy.internal:3128")),
            no_proxy: vec!["localhost".into(), "10.0.0.0/8".into(), ".internal".into()],
            transparent: false,
        }),
        dockerhub_mirror: Some(url("https://mirror.internal:5000")),
        ssh_debug_connections: vec![SshDebugConnection {
            host: "tmate.internal".into(),
            port: 10022,
            rsa_fingerprint: "SHA256:rsa".into(),
            ed25519_fingerprint: "SHA256:ed".into(),
        }],
        repo_policy_compliance: Some(RepoPolicyCompliance {
            url: url("https://policy.internal/"),
            token: Secret::new("ONE-TIME-TOKEN"),
        }),
    };
    spec
}

pub(crate) fn claim() -> RunnerCredential {
    RunnerCredential::Claim {
        url: "https://manager.internal:8443/runner/app-0123456789ab"
            .parse()
            .expect("a URL"),
        nonce: Secret::new("A-NONCE"),
    }
}

pub(crate) fn config(json: Value) -> BootConfig {
    serde_json::from_value(json).expect("a section")
}

/// The cloud-config as cloud-init reads it.
pub(crate) fn parsed(document: &str) -> Value {
    assert!(document.starts_with("#cloud-config\n"), "{document}");
    serde_saphyr::from_str(document).expect("YAML")
}

/// The files by name, less what cloud-init decodes.
pub(crate) fn files(document: &str) -> BTreeMap<String, String> {
    let config = parsed(document);
    let files = config["write_files"].as_array().expect("files");
    let one = |file: &Value| {
        let text = |key: &str| file[key].as_str().expect("a text").to_owned();
        let mut content = text("content");
        if file["encoding"] == "b64" {
            let bytes = STANDARD.decode(content).expect("base64");
            content = String::from_utf8(bytes).expect("UTF-8");
        }
        let path = text("path");
        let name = path.strip_prefix("/opt/runner-manager/");
        (name.expect("the folder").to_owned(), content)
    };
    files.iter().map(one).collect()
}

/// What differs between launches: all but the constant scripts.
pub(crate) fn values(document: &str) -> String {
    let mut config = parsed(document);
    config.as_object_mut().expect("a map").remove("write_files");
    let mut text = format!("{config:#}\n");
    for (name, content) in files(document) {
        let settings = [
            "environment.sh",
            "settings.sh",
            "registration.sh",
            "secrets.sh",
        ];
        let is_script = name.ends_with(".sh") || name.ends_with(".py");
        if !is_script || settings.contains(&name.as_str()) {
            text.push_str(&format!("--- {name}\n{content}"));
        }
    }
    text
}
