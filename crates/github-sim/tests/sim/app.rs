//! GitHub Apps.

use std::time::Duration;

use runner_manager_core::{ErrorKind, Secret};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use runner_manager_github_sim::{AppConfig, Sim, SimConfig};

use crate::support::{REPO, path};

fn keys() -> (String, String) {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    (key.serialize_pem(), key.public_key_pem())
}

#[tokio::test]
async fn an_app_proves_itself_and_gets_tokens_for_every_scope() {
    let ((private, public), (other, _)) = (keys(), keys());
    let config = SimConfig {
        app: Some(AppConfig {
            id: 4711,
            public_key_pem: public,
            token_lifetime: Duration::from_secs(3_600),
        }),
        ..SimConfig::default()
    };
    let sim = Sim::start(config).await.unwrap();
    let client = |key: &str| {
        let auth = Auth::App {
            app_id: "4711".into(),
            installation_id: None,
            private_key: Secret::new(key),
        };
        GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap()
    };
    let github = client(&private);
    for scope in ["acme", REPO, "enterprises/acme-inc"] {
        github.registration_token(&path(scope)).await.unwrap();
    }
    let refused = client(&other).runners(&path(REPO)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthenticated, "{refused}");
}
