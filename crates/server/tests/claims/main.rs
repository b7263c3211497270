//! How an instance claims its secrets over TLS: once, in time, from its own address, with its
//! own nonce. Whatever else asks gets nothing, and is an alarm.

#![expect(clippy::unwrap_used, reason = "a test")]

mod machines;
mod place;
mod status;

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde_json::Value;

use place::{CLAIM_WITHIN, Place, alarms, local, log_text};

/// The files that a claim was answered with.
fn files((status, body): (StatusCode, String)) -> Value {
    assert_eq!(status, StatusCode::OK, "{body}");
    let mut answer: Value = serde_json::from_str(&body).unwrap();
    answer["files"].take()
}

/// Fails unless the answer is the one that all get who are refused, and one more alarm about
/// `about` gives this reason.
fn assert_refused(
    (status, body): (StatusCode, String),
    about: &impl ToString,
    count: usize,
    reason: &str,
) {
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body, "refused; the manager's log says why");
    let alarms = alarms(about);
    assert_eq!(alarms.len(), count, "{alarms:?}");
    assert!(alarms[count - 1].contains(reason), "{alarms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_claim_gets_the_secrets_and_the_second_an_alarm() {
    let place = Place::new("once", &[local(1)], &[]).await;
    let nonce = place.booted.nonce.expose();
    let files = files(place.claim(nonce, local(1)).await);
    let mode = files["registration.sh"].as_str().unwrap();
    assert!(mode.contains("RM_MODE=jit"), "{mode}");
    let credential = files["credential"].as_str().unwrap().trim();
    let config: Value = serde_json::from_slice(&STANDARD.decode(credential).unwrap()).unwrap();
    assert!(config[".runner"].is_string(), "no just-in-time config");
    let token = files["callback-token"].as_str().unwrap().trim();

    assert_eq!(alarms(&place.runner), [""; 0]);
    let second = place.claim(nonce, local(1)).await;
    assert_refused(second, &place.runner, 1, "it was used before");

    // The token that came along is good for reports, and the nonce is not.
    assert_eq!(place.report(token, "booted").await, StatusCode::NO_CONTENT);
    let with_nonce = place.report(nonce, "listening").await;
    assert_eq!(with_nonce, StatusCode::FORBIDDEN);
    assert_eq!(place.report(token, "booted").await, StatusCode::FORBIDDEN);
    assert_eq!(alarms(&place.runner).len(), 3);

    let log = log_text();
    for secret in [nonce, credential, token] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_claims_at_once_one_is_served() {
    let place = Place::new("many", &[local(1)], &[]).await;
    let nonce = place.booted.nonce.expose();
    let claims = (0..16).map(|_| place.claim(nonce, local(1)));
    let answers = futures::future::join_all(claims).await;
    let served = answers.iter().filter(|(status, _)| status.is_success());
    assert_eq!(served.count(), 1);
    let refused = answers.iter().filter(|a| a.0 == StatusCode::FORBIDDEN);
    assert_eq!(refused.count(), 15);
    assert_eq!(alarms(&place.runner).len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_after_the_deadline_is_refused() {
    let place = Place::new("late", &[local(1)], &[]).await;
    let nonce = place.booted.nonce.expose();
    place
        .world
        .clock
        .advance(CLAIM_WITHIN + Duration::from_secs(1));
    let late = place.claim(nonce, local(1)).await;
    assert_refused(late, &place.runner, 1, "it comes after the deadline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_at_the_deadline_is_served() {
    let place = Place::new("just", &[local(1)], &[]).await;
    let nonce = place.booted.nonce.expose();
    place.world.clock.advance(CLAIM_WITHIN);
    files(place.claim(nonce, local(1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_from_another_address_is_refused_and_the_nonce_still_serves() {
    let place = Place::new("elsewhere", &[local(2)], &[]).await;
    // Where a machine is does not depend on what is heard from it.
    place.world.is_deaf.store(true, Ordering::SeqCst);
    let nonce = place.booted.nonce.expose();
    let elsewhere = place.claim(nonce, local(1)).await;
    let reason = "the address is not the instance's";
    assert_refused(elsewhere, &place.runner, 1, reason);
    files(place.claim(nonce, local(2)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_networks_decide_in_the_place_of_the_backend() {
    let place = Place::new("networks", &[local(1)], &["127.0.0.2/31"]).await;
    let nonce = place.booted.nonce.expose();
    let elsewhere = place.claim(nonce, local(1)).await;
    let reason = "the address is not the instance's";
    assert_refused(elsewhere, &place.runner, 1, reason);
    files(place.claim(nonce, local(3)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_nonce_is_refused_and_the_own_one_still_serves() {
    let place = Place::new("forged", &[local(1)], &[]).await;
    let nonce = place.booted.nonce.expose();
    let forged = place.claim(&"0".repeat(nonce.len()), local(1)).await;
    assert_refused(forged, &place.runner, 1, "the secret is not its own");
    let nobody = "forged-000000000000";
    let other = place.claim_as(nobody, Some(nonce), local(1)).await;
    assert_refused(other, &nobody, 1, "no such instance was launched");
    // Those from whom nothing else is known are told from the others by their address.
    let none = place
        .claim_as(&place.runner.to_string(), None, local(41))
        .await;
    assert_refused(none, &local(41), 1, "no secret came along");
    let unnamed = place.claim_as("Forged_", Some(nonce), local(42)).await;
    assert_refused(unnamed, &local(42), 1, "the name is none of a runner");
    files(place.claim(nonce, local(1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_for_a_deleted_runner_is_refused() {
    let place = Place::new("deleted", &[local(1)], &[]).await;
    let delete = place.fleet.delete_runner(&place.runner, CLAIM_WITHIN);
    delete.await.unwrap();
    let deleted = place.claim(place.booted.nonce.expose(), local(1)).await;
    let reason = "the runner is being removed, or is gone";
    assert_refused(deleted, &place.runner, 1, reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_backend_is_down_nobody_is_served_and_the_nonce_stays() {
    let place = Place::new("down", &[local(1)], &[]).await;
    let nonce = place.booted.nonce.expose();
    place.world.is_down.store(true, Ordering::SeqCst);
    let (status, body) = place.claim(nonce, local(1)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
    assert_eq!(body, "try again");
    place.world.is_down.store(false, Ordering::SeqCst);
    files(place.claim(nonce, local(1)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_on_the_disk_before_or_after_the_claim() {
    let place = Place::new("sealed", &[local(1)], &[]).await;
    let read = || -> Vec<u8> {
        let folder = std::fs::read_dir(place.state.path().join("state")).unwrap();
        let paths = folder.map(|entry| entry.unwrap().path());
        paths
            .flat_map(|path| std::fs::read(path).unwrap())
            .collect()
    };
    let nonce = place.booted.nonce.expose();
    let before = read();
    let files = files(place.claim(nonce, local(1)).await);
    let after = read();
    let has = |text: &str, bytes: &[u8]| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(has(&place.runner.to_string(), &before), "nothing is stored");
    let credential = files["credential"].as_str().unwrap().trim();
    let token = files["callback-token"].as_str().unwrap().trim();
    for secret in [nonce, credential, token] {
        assert!(!has(secret, &before), "a secret waits in the clear");
        assert!(!has(secret, &after), "a secret stays");
    }
}
