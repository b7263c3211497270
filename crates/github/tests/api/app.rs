//! GitHub App authentication.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{Timestamp, ToSpan};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use runner_manager_core::{ErrorKind, GitHubPath, Secret};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Seen, error_reply, json_reply, org, page, rsa};

fn app(fake: &Fake, key: &str, installation_id: Option<u64>) -> GitHub {
    let auth = Auth::App {
        app_id: "4711".into(),
        installation_id,
        private_key: Secret::new(key),
    };
    GitHub::new(GitHubConfig::new(fake.url.clone(), auth)).unwrap()
}

/// Answers as GitHub does for an App installed in `octo-org` only.
fn github(seen: &Seen, minutes: i64, serial: &AtomicU64) -> Reply {
    match seen.line.as_str() {
        "GET /orgs/octo-org/installation" => json_reply(200, &json!({"id": 77, "app_id": 4711})),
        "POST /app/installations/77/access_tokens" => {
            let n = serial.fetch_add(1, Ordering::SeqCst) + 1;
            let end = Timestamp::now() + minutes.minutes();
            json_reply(
                201,
                &json!({"token": format!("ghs_{n}"), "expires_at": end.to_string()}),
            )
        }
        line if line.starts_with("GET /orgs/octo-org/actions/runners") => {
            json_reply(200, &page(0, []))
        }
        _ => error_reply(404, "Not Found"),
    }
}

#[tokio::test]
async fn the_proof_is_signed_and_the_token_is_made_once_for_many_calls() {
    let (key, public) = rsa();
    let fake = Fake::start({
        let serial = AtomicU64::new(0);
        move |seen, _| github(seen, 60, &serial)
    })
    .await;
    let client = app(&fake, &key, None);
    let path = org();
    let calls = (0..10).map(|_| client.runners(&path));
    for listing in futures::future::join_all(calls).await {
        listing.unwrap();
    }
    let made = |line: &str| fake.lines().iter().filter(|seen| *seen == line).count();
    assert_eq!(
        made("POST /app/installations/77/access_tokens"),
        1,
        "one renewal at a time"
    );
    let proof = fake.seen()[0]
        .header("authorization")
        .replace("Bearer ", "");
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_issuer(&["4711"]);
    let public = DecodingKey::from_rsa_pem(public.as_bytes()).unwrap();
    let claims = decode::<Value>(&proof, &public, &rules).unwrap().claims;
    let number = |name: &str| claims[name].as_i64().unwrap();
    let now = Timestamp::now().as_second();
    assert!(number("exp") - number("iat") <= 600);
    assert!((now - 120..=now - 60).contains(&number("iat")));
    let last = fake.seen().pop().unwrap();
    assert_eq!(last.header("authorization"), "Bearer ghs_1");
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_once_when_refused() {
    let (key, _) = rsa();
    let fake = Fake::start({
        let serial = AtomicU64::new(0);
        move |seen, _| github(seen, 4, &serial)
    })
    .await;
    let client = app(&fake, &key, Some(77));
    client.runners(&org()).await.unwrap();
    client.runners(&org()).await.unwrap();
    let used: Vec<String> = fake
        .seen()
        .iter()
        .filter(|seen| seen.line.starts_with("GET"))
        .map(|seen| seen.header("authorization").to_owned())
        .collect();
    assert_eq!(used, ["Bearer ghs_1", "Bearer ghs_2"], "five minutes ahead");

    let fake = Fake::start({
        let serial = AtomicU64::new(0);
        move |seen, _| match seen.header("authorization") {
            "Bearer ghs_1" => error_reply(401, "Bad credentials"),
            _ => github(seen, 60, &serial),
        }
    })
    .await;
    app(&fake, &key, Some(77)).runners(&org()).await.unwrap();

    let fake = Fake::start({
        let serial = AtomicU64::new(0);
        move |seen, _| {
            if seen.header("authorization").starts_with("Bearer ghs_") {
                return error_reply(401, "Bad credentials");
            }
            github(seen, 60, &serial)
        }
    })
    .await;
    let error = app(&fake, &key, Some(77))
        .runners(&org())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert_eq!(fake.lines().len(), 4, "once anew, not forever");
}

#[tokio::test]
async fn a_failed_renewal_is_shared_by_those_who_waited() {
    let (key, _) = rsa();
    let tries = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&tries);
    let fake = Fake::start(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        error_reply(403, "This installation has been suspended")
    })
    .await;
    let client = app(&fake, &key, Some(77));
    let path = org();
    let calls = (0..10).map(|_| client.runners(&path));
    for listing in futures::future::join_all(calls).await {
        let error = listing.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("suspended"), "{error}");
    }
    assert_eq!(tries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_absent_installation_and_a_bad_key_are_told() {
    let (key, _) = rsa();
    let fake = Fake::start(|_, _| error_reply(404, "Not Found")).await;
    let other = GitHubPath::parse("octo/hello", None).unwrap();
    let error = app(&fake, &key, None).runners(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(
        error.message().contains("not installed in octo/hello"),
        "{error}"
    );
    let half = &key[..key.len() / 2];
    for bad in ["", "hunter2", half] {
        let auth = Auth::App {
            app_id: "1".into(),
            installation_id: None,
            private_key: Secret::new(bad),
        };
        let error = GitHub::new(GitHubConfig::new(fake.url.clone(), auth)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains("private key"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
