//! User-data: what it holds, what it refuses, and that nothing in it is more than a value.

mod nasty;
mod refusals;
mod support;

use runner_manager_core::{
    BootConfig, BootSecrets, Bootstrap, Compression, PartKind, RunnerCredential, Secret,
};
use serde_json::json;

use support::{JIT, PASSWORD, claim, config, full, plain, values};

fn masked(spec: &runner_manager_core::LaunchSpec, config: &BootConfig) -> String {
    let bootstrap = Bootstrap::new(spec, config).expect("a fit launch");
    bootstrap.masked().expect("a text")
}

fn exposed(spec: &runner_manager_core::LaunchSpec, config: &BootConfig) -> String {
    let bootstrap = Bootstrap::new(spec, config).expect("a fit launch");
    let data = bootstrap.user_data(None).expect("user-data");
    String::from_utf8(data.expose().to_vec()).expect("a text")
}

#[test]
fn the_smallest_launch() {
    let text = exposed(&plain(), &BootConfig::default());
    insta::assert_snapshot!(values(&text));
}

#[test]
fn all_services_with_a_registration_token() {
    let mut spec = full();
    spec.credential = RunnerCredential::RegistrationToken {
        url: "https://github.com/octo".parse().expect("a URL"),
        token: Secret::new("REGISTRATION-TOKEN"),
    };
    let config = config(json!({
        "machine": "arm64",
        "user": "runner",
        "home": "/home/runner",
        "runner": {
            "path": "/srv/runner",
            "minimum_version": "2.330.0",
            "download": {"url": "https://files.internal/runner.tar.gz", "sha256": "ab".repeat(32)},
        },
        "env": {"FLAVOR": "large", "LINES": "a\nb"},
        "pre_job_script": "#!/bin/sh\necho hello\n",
        "ca_certificates": ["-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"],
    }));
    insta::assert_snapshot!(values(&exposed(&spec, &config)));
}

#[test]
fn a_claim_leaves_no_secret_in_user_data() {
    let inline = full();
    let mut spec = full();
    spec.credential = claim();
    let text = exposed(&spec, &BootConfig::default());
    for secret in [JIT, PASSWORD, "ONE-TIME-TOKEN", "joe"] {
        assert!(!text.contains(secret), "{secret} in user-data");
    }
    insta::assert_snapshot!(values(&text));
    // The answer to the claim holds what an inline launch has beside it.
    let answer = BootSecrets::new(&inline.credential, &inline.support)
        .and_then(|secrets| secrets.with_callback_token(&Secret::new("CALLBACK-TOKEN")))
        .expect("secrets");
    assert!(!format!("{answer:?}").contains(JIT));
    let answer: serde_json::Value = serde_json::from_str(answer.to_json().expose()).expect("JSON");
    insta::assert_snapshot!(format!("{answer:#}"));
    let mut both = support::files(&text);
    for (name, content) in answer["files"].as_object().expect("files") {
        both.insert(name.clone(), content.as_str().expect("a text").to_owned());
    }
    for name in support::files(&exposed(&inline, &BootConfig::default())).keys() {
        assert!(both.contains_key(name), "{name} reaches no instance");
    }
}

#[test]
fn transparent_proxying_is_a_table_of_its_own() {
    let mut spec = full();
    let proxy = spec.support.proxy_config.as_mut().expect("a proxy");
    proxy.http = "http://10.1.2.3:80".parse().ok();
    proxy.transparent = true;
    let config = config(json!({"aproxy": {"ports": [80, 443], "exclude": ["192.0.2.0/24"]}}));
    let files = support::files(&exposed(&spec, &config));
    insta::assert_snapshot!(files["aproxy.nft"]);
    assert!(!files.contains_key("docker-proxy.conf"));
    assert!(!files["environment.sh"].contains("http_proxy"));
}

#[test]
fn people_see_masks() {
    let mut spec = full();
    let text = masked(&spec, &BootConfig::default());
    for secret in [JIT, PASSWORD, "ONE-TIME-TOKEN", "joe"] {
        assert!(!text.contains(secret), "{secret} is shown");
    }
    assert!(text.contains("***"));
    spec.credential = claim();
    assert!(!masked(&spec, &BootConfig::default()).contains("A-NONCE"));
}

#[test]
fn extra_parts_come_first_in_mime() {
    let config = config(json!({"extra_parts": [
        {"kind": "cloud_config", "content": "#cloud-config\npackages: [jq]\n"},
        {"kind": "script", "content": "#!/bin/sh\necho \"grüße ==runner-manager==\"\n"},
    ]}));
    let text = exposed(&plain(), &config);
    let own = text
        .find("#cloud-config\nhostname")
        .expect("the manager's part");
    insta::assert_snapshot!(&text[..own]);
    assert!(text.ends_with("\n--==runner-manager===--\n"), "{text}");
    let spec = plain();
    let key = Secret::new("#cloud-config\nssh_keys: {}\n");
    let bootstrap = Bootstrap::new(&spec, &config).expect("a fit launch");
    let bootstrap = bootstrap.with_part(PartKind::CloudConfig, key);
    assert!(!bootstrap.masked().expect("a text").contains("ssh_keys"));
    let data = bootstrap.user_data(None).expect("user-data");
    let text = String::from_utf8(data.expose().to_vec()).expect("a text");
    assert!(text.find("ssh_keys").expect("the key") < text.find("jq").expect("the pool's"));
}

#[test]
fn large_user_data_is_packed_or_refused() {
    let (spec, mut config) = (plain(), BootConfig::default());
    let pack = |config: &BootConfig, limit| {
        let bootstrap = Bootstrap::new(&spec, config).expect("a fit launch");
        bootstrap.user_data(limit)
    };
    let whole = pack(&config, None).expect("user-data");
    assert!(whole.expose().starts_with(b"#cloud-config"));
    let packed = pack(&config, Some(16 * 1024)).expect("user-data");
    assert!(packed.expose().starts_with(&[0x1f, 0x8b]));
    assert!(packed.expose().len() < whole.expose().len() / 2);
    let refused = pack(&config, Some(1024)).expect_err("too large");
    assert!(refused.to_string().contains("too large"), "{refused}");
    config.compression = Compression::Never;
    pack(&config, Some(16 * 1024)).expect_err("too large and never packed");
    config.compression = Compression::Always;
    let packed = pack(&config, None).expect("user-data");
    assert!(packed.expose().starts_with(&[0x1f, 0x8b]));
    assert!(!format!("{packed:?}").contains("hostname"));
}
