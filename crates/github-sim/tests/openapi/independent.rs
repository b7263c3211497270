//! GitHub's own client library against the simulator.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use runner_manager_github_sim::{AppConfig, Sim, SimConfig};
use serde_json::{Value, json};

use crate::support::job;

const PACKAGE: &str = "octokit@4.1.4";

/// The folder with the library, installed once.
fn library() -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("octokit-4.1.4");
    if folder.join("done").exists() {
        return folder;
    }
    fs::create_dir_all(&folder).unwrap();
    let npm = Command::new("npm")
        .args([
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ])
        .args(["--save-exact", PACKAGE, "--prefix"])
        .arg(&folder)
        .output()
        .expect("this test needs npm to fetch GitHub's client; install Debian's `npm`");
    assert!(
        npm.status.success(),
        "npm: {}",
        String::from_utf8_lossy(&npm.stderr)
    );
    fs::write(folder.join("done"), "").unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn githubs_own_client_gets_on_with_the_simulator() {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    let config = SimConfig {
        apps: vec![AppConfig {
            id: 4711,
            public_key_pem: key.public_key_pem(),
            token_lifetime: Duration::from_secs(3_600),
        }],
        ..SimConfig::default()
    };
    let sim = Sim::start(config).await.unwrap();
    sim.queue_job(job()).unwrap();
    let folder = library();
    // The library is found from the folder of the script.
    let script = folder.join("independent.mjs");
    fs::write(&script, include_str!("independent.mjs")).unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), key.serialize_pem()).unwrap();
    let input = json!({
        "baseUrl": sim.api_url(),
        "token": sim.token(),
        "appId": 4711,
        "keyFile": secret.path(),
    });
    let node = Command::new("node")
        .arg(&script)
        .arg(input.to_string())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&node.stderr);
    assert!(node.status.success(), "{errors}");
    let found: Value = serde_json::from_slice(&node.stdout).unwrap();
    let wanted = json!({
        "listed": ["one", "two", "three"],
        "again": 404,
        "taken": 409,
        "queued": ["queued"],
        "registered": true,
    });
    assert_eq!(found, wanted);
}
