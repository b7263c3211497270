//! What may not enter user-data, and what the owner of the pool is told.

use runner_manager_core::{BootConfig, Bootstrap, ErrorKind, RunnerCredential, Secret};
use serde_json::{Value, json};

use crate::support::{claim, full, plain};

#[test]
fn a_section_that_cannot_work_is_refused_with_its_key() {
    let table: [(Value, &str); 20] = [
        (json!({"user": "root; id"}), "`user`"),
        (json!({"user": ""}), "`user`"),
        (json!({"home": "home"}), "`home`"),
        (json!({"home": "/home/../root"}), "`home`"),
        (json!({"runner": {"path": "/opt/a b"}}), "`runner.path`"),
        (json!({"runner": {"path": "/"}}), "`runner.path`"),
        (
            json!({"runner": {"minimum_version": "2.330"}}),
            "`runner.minimum_version`",
        ),
        (
            json!({"runner": {"download": {"url": "ftp://x/y", "sha256": "ab"}}}),
            "download.url",
        ),
        (
            json!({"runner": {"download": {"url": "https://x/y", "sha256": "AB"}}}),
            "sha256",
        ),
        (
            json!({"runner": {"download": {"url": "https://a:b@x/y", "sha256": "ab".repeat(32)}}}),
            "download.url",
        ),
        (json!({"env": {"A B": "c"}}), "A B"),
        (json!({"env": {"1A": "c"}}), "1A"),
        (json!({"env": {"UID": "0"}}), "UID"),
        (json!({"env": {"RM_USER": "root"}}), "RM_USER"),
        (json!({"env": {"A": "b\u{0}c"}}), "NUL"),
        (json!({"pre_job_script": "echo"}), "`pre_job_script`"),
        (json!({"ca_certificates": ["MII"]}), "`ca_certificates`"),
        (
            json!({"extra_parts": [{"kind": "cloud_config", "content": "a: b"}]}),
            "#cloud-config",
        ),
        (json!({"aproxy": {"ports": []}}), "`aproxy.ports`"),
        (json!({"aproxy": {"listen": 443}}), "`aproxy.listen`"),
    ];
    for (section, word) in table {
        let config: BootConfig = serde_json::from_value(section.clone()).expect("a section");
        let error = config.check().expect_err(&section.to_string());
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.to_string().contains(word), "{section}: {error}");
    }
    BootConfig::default().check().expect("the defaults work");
    for section in [
        json!({"users": 1}),
        json!({"aproxy": {"exclude": ["10.0.0.0/33"]}}),
    ] {
        serde_json::from_value::<BootConfig>(section).expect_err("no such section");
    }
}

#[test]
fn a_launch_that_cannot_work_is_refused() {
    let config = BootConfig::default();
    let refused = |spec, word: &str| {
        let error = Bootstrap::new(&spec, &config).expect_err(word);
        assert!(error.to_string().contains(word), "{word}: {error}");
    };
    for secret in ["", "a b", "a\nb", "ü"] {
        let mut spec = plain();
        spec.credential = RunnerCredential::JitConfig(Secret::new(secret));
        refused(spec, "credential");
    }
    let mut spec = plain();
    spec.credential = claim();
    if let RunnerCredential::Claim { url, .. } = &mut spec.credential {
        *url = "http://manager.internal/runner/x".parse().expect("a URL");
    }
    refused(spec, "https");
    let change = |change: fn(&mut runner_manager_core::ProxyConfig)| {
        let mut spec = full();
        change(spec.support.proxy_config.as_mut().expect("a proxy"));
        spec
    };
    refused(change(|p| p.no_proxy = vec!["a b".into()]), "no_proxy");
    refused(change(|p| p.http = "ftp://x".parse().ok()), "proxy");
    refused(change(|p| p.transparent = true), "without credentials");
    refused(
        change(|p| {
            p.transparent = true;
            p.http = "http://proxy.internal:80".parse().ok();
        }),
        "redirected to itself",
    );
    let mut spec = full();
    let policy = spec
        .support
        .repo_policy_compliance
        .as_mut()
        .expect("a policy");
    policy.url = "https://joe:secret@policy.internal".parse().expect("a URL");
    refused(spec, "policy");
}
