//! GitHub Apps.

use std::time::Duration;

use runner_manager_core::{ErrorKind, Secret};
use runner_manager_github::{AppKey, Auth, GitHub, GitHubConfig};
use runner_manager_github_sim::{AppConfig, RateLimit, Sim, SimConfig};

use crate::support::{REPO, path};

pub(crate) fn keys() -> (String, String) {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    (key.serialize_pem(), key.public_key_pem())
}

#[tokio::test]
async fn an_app_proves_itself_and_gets_tokens_for_every_scope() {
    let ((private, public), (other, _)) = (keys(), keys());
    let config = SimConfig {
        apps: vec![AppConfig {
            id: 4711,
            public_key_pem: public,
            token_lifetime: Duration::from_secs(3_600),
        }],
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

#[tokio::test]
async fn several_apps_share_the_work_and_the_limits() {
    let pairs = [keys(), keys(), keys()];
    let config = SimConfig {
        apps: (1..)
            .zip(&pairs)
            .map(|(id, (_, public))| AppConfig {
                id,
                public_key_pem: public.clone(),
                token_lifetime: Duration::from_secs(3_600),
            })
            .collect(),
        rate_limit: RateLimit {
            limit: 10,
            window: Duration::from_secs(3_600),
        },
        ..SimConfig::default()
    };
    let sim = Sim::start(config).await.unwrap();
    let key = |id: usize, key: &str| AppKey {
        app_id: id.to_string(),
        installation_id: None,
        private_key: Secret::new(key),
    };
    let all = (1..).zip(&pairs).map(|(id, (private, _))| key(id, private));
    let client = |keys: Vec<AppKey>| {
        let auth = Auth::Apps(keys);
        GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap()
    };
    let github = client(all.collect());
    for _ in 0..30 {
        github.registration_token(&path("acme")).await.unwrap();
    }
    let spent = github.registration_token(&path("acme")).await.unwrap_err();
    assert_eq!(spent.kind(), ErrorKind::RateLimited, "{spent}");

    // One whose key is not known does not stand in the way of the others.
    let (stranger, _) = keys();
    let mixed = vec![key(1, &stranger), key(2, &pairs[1].0)];
    let fresh = path("enterprises/acme-inc");
    client(mixed).registration_token(&fresh).await.unwrap();
    let none = GitHubConfig::new(sim.url().parse().unwrap(), Auth::Apps(Vec::new()));
    let error = GitHub::new(none).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn the_lists_of_a_scope_are_read_by_one_app_and_so_are_free() {
    let pairs = [keys(), keys()];
    let config = SimConfig {
        apps: (1..)
            .zip(&pairs)
            .map(|(id, (_, public))| AppConfig {
                id,
                public_key_pem: public.clone(),
                token_lifetime: Duration::from_secs(3_600),
            })
            .collect(),
        ..SimConfig::default()
    };
    let sim = Sim::start(config).await.unwrap();
    let keys = (1..).zip(&pairs).map(|(id, (private, _))| AppKey {
        app_id: id.to_string(),
        installation_id: None,
        private_key: Secret::new(private),
    });
    let auth = Auth::Apps(keys.collect());
    let github = GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap();
    for _ in 0..5 {
        github.remove_token(&path("acme")).await.unwrap();
        github.runners(&path("acme")).await.unwrap();
    }
    let lists = sim.exchanges();
    let lists = lists.iter().filter(|e| e.path.contains("/runners?"));
    let statuses: Vec<Option<u16>> = lists.map(|e| e.status).collect();
    assert_eq!(statuses[1..], [Some(304); 4], "{statuses:?}");
}
