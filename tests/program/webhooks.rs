//! The fleet follows webhooks, at once.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use runner_manager_github_sim::{Conclusion, JobOffer, JobSpec, JobStatus, WebhookConfig};

use crate::support::{Place, REPO};

const SECRET: &str = "a secret of this test";

/// A place whose manager polls every ten minutes, and hears of everything else by webhooks.
async fn place(pool: &str) -> (Place, String) {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{port}/webhook");
    let webhook = WebhookConfig {
        url: url.clone(),
        secret: SECRET.into(),
    };
    let mut place = Place::with(pool, Some(webhook), JobOffer::Assigned).await;
    let (old, new) = (place.path("old"), place.path("new"));
    fs::write(&old, SECRET).unwrap();
    fs::write(&new, "another secret of this test").unwrap();
    place.poll = 600_000;
    place.more = format!(
        "[webhook]\nlisten = \"127.0.0.1:{port}\"\nsecret_file = {new:?}\nprevious_secret_file = {old:?}"
    );
    place.configure();
    (place, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_served_by_webhooks_alone() {
    let (place, url) = place("max = 2\nidle_timeout_seconds = 1").await;
    // Nobody listens yet: the first look finds this one.
    let early = place.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
    let manager = place.start();
    let won = |id: u64| {
        move |place: &Place| place.sim.job(id).unwrap().conclusion == Some(Conclusion::Success)
    };
    place.until("the early job is done", won(early)).await;
    let mut last = early;
    for _ in 0..6 {
        last = place.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
    }
    place.until("the last job is done", won(last)).await;
    place.until("nothing is left", Place::is_empty).await;
    let jobs = place.json(&["jobs", "list"]);
    let done = |job: &serde_json::Value| job["status"] == "completed" && job["runner"].is_string();
    place
        .until("all are known to be done", |place| {
            place
                .json(&["jobs", "list"])
                .as_array()
                .unwrap()
                .iter()
                .all(done)
        })
        .await;
    assert_eq!(jobs.as_array().unwrap().len(), 7);
    let why = place.json(&["jobs", "why", &last.to_string()]);
    let stages: Vec<&str> = why["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages.first(), Some(&"waited for a runner"), "{why}");
    assert_eq!(place.command(&["jobs", "why", "1"]).status.code(), Some(3));
    let looks = place.sim.exchanges();
    let looks = looks
        .iter()
        .filter(|e| e.path.contains("/actions/runs?"))
        .count();
    assert!(
        looks <= 5,
        "one look at the start, and no poll after it: {looks}"
    );

    let mut calls = BTreeMap::<String, usize>::new();
    for exchange in place.sim.exchanges() {
        if let Some(path) = exchange.path.strip_prefix("/api/v3/") {
            let path = path.split('?').next().unwrap_or_default();
            let kind = path.trim_end_matches(|c: char| c.is_ascii_digit() || c == '/');
            *calls
                .entry(format!("{} {kind}", exchange.method))
                .or_default() += 1;
        }
    }
    let (all, runners) = (
        calls.values().sum::<usize>(),
        place.sim.registrations_created(),
    );
    println!("webhook test: {all} calls of GitHub for {runners} runners: {calls:?}");

    let cancelled = place
        .sim
        .queue_job(JobSpec::new(REPO, &["test", "never"]))
        .unwrap();
    place.sim.cancel_job(cancelled);
    refusals(&url).await;
    assert_eq!(manager.terminate(), Some(0));
    assert!(
        place
            .sim
            .jobs()
            .iter()
            .all(|job| job.status == JobStatus::Completed)
    );
}

async fn refusals(url: &str) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0);
    let client = client.build().unwrap();
    let send = |signature: Option<&str>, body: Vec<u8>| {
        let mut request = client
            .post(url)
            .header("x-github-event", "workflow_job")
            .header("x-github-delivery", "1");
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        request.body(body).send()
    };
    let wrong = format!("sha256={}", "0".repeat(64));
    for (signature, body, status) in [
        (None, b"{}".to_vec(), 401),
        (Some("sha256=xyz"), b"{}".to_vec(), 401),
        (Some(wrong.as_str()), b"{}".to_vec(), 401),
        (Some(wrong.as_str()), vec![b' '; 3 << 20], 413),
    ] {
        match send(signature, body).await {
            Ok(answer) => assert_eq!(answer.status(), status),
            // The answer comes before the body is sent, and may be lost with the connection.
            Err(error) => assert_eq!(status, 413, "{error}"),
        }
    }
    let missing = client.get(url).send().await.unwrap();
    assert_eq!(missing.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_and_a_weak_secret_are_told() {
    let (place, url) = place("max = 1").await;
    let port: u16 = url.split([':', '/']).nth(4).unwrap().parse().unwrap();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let output = place.command(&["run"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("cannot listen for webhooks") && told.contains(&port.to_string()),
        "{told}"
    );
    drop(taken);
    fs::write(place.path("old"), "short").unwrap();
    place.configure();
    let output = place.command(&["check"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("at least 16 characters"), "{told}");
}
