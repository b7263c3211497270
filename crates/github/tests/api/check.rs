//! The check that operators run.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use runner_manager_github::Finding;
use serde_json::json;

use crate::fake::{Fake, Reply, Seen, error_reply, html_reply, json_reply, org, page};

/// A GitHub where all is well.
fn fine(seen: &Seen) -> Reply {
    match seen.line.as_str() {
        "GET /meta" => json_reply(200, &json!({"verifiable_password_authentication": false})),
        line if line.starts_with("GET") => json_reply(200, &page(0, []))
            .with("x-ratelimit-limit", &5000)
            .with("x-ratelimit-remaining", &4000)
            .with("x-ratelimit-reset", &1_795_511_100),
        _ => {
            let body = json!({"token": "AABBCC", "expires_at": "2030-01-22T12:13:35Z"});
            json_reply(201, &body)
        }
    }
}

fn wrong(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| !finding.ok).collect()
}

#[tokio::test]
async fn all_is_well() {
    let fake = Fake::start(|seen, _| fine(seen)).await;
    let findings = fake.client().check(&org()).await;
    assert_eq!(wrong(&findings), Vec::<&Finding>::new());
    assert_eq!(findings.len(), 8, "{findings:?}");
    assert!(findings.iter().all(|finding| finding.advice.is_none()));
    assert_eq!(
        fake.seen()[0].header("authorization"),
        "",
        "the first look needs no credential"
    );
}

#[tokio::test]
async fn each_fault_is_found_with_what_to_do() {
    let fake = Fake::start(|_, _| html_reply(200, "<html>login")).await;
    let findings = fake.client().check(&org()).await;
    assert_eq!(findings.len(), 1);
    assert!(!findings[0].ok && findings[0].what.contains("text/html"));

    let fake = Fake::start(|seen, _| match seen.line.as_str() {
        "GET /meta" => fine(seen),
        _ => error_reply(401, "Bad credentials"),
    })
    .await;
    let findings = fake.client().check(&org()).await;
    let found = wrong(&findings);
    assert_eq!(found.len(), 1, "{findings:?}");
    assert!(found[0].what.contains("the credential does not work"));
    assert!(found[0].advice.as_ref().unwrap().contains("revoked"));

    let fake = Fake::start(|seen, _| {
        if seen.line.starts_with("POST") {
            return error_reply(403, "Must have admin rights");
        }
        fine(seen)
    })
    .await;
    let findings = fake.client().check(&org()).await;
    let found = wrong(&findings);
    assert_eq!(found.len(), 2, "{findings:?}");
    for finding in found {
        assert!(
            finding.advice.as_ref().unwrap().contains("admin:org"),
            "{finding:?}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_found() {
    let fake = Fake::start(|seen, _| {
        let then = Timestamp::now().as_second() - 600;
        let date = rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&Timestamp::from_second(then).unwrap())
            .unwrap();
        fine(seen).with("date", &date)
    })
    .await;
    let findings = fake.client().check(&org()).await;
    let found = wrong(&findings);
    assert_eq!(found.len(), 1, "{findings:?}");
    assert!(found[0].what.contains("ahead of GitHub's"), "{found:?}");
    assert!(found[0].advice.as_ref().unwrap().contains("NTP"));
}

#[tokio::test]
async fn a_repository_whose_jobs_cannot_be_read_is_found_with_what_to_do() {
    for (status, text, advice) in [
        (404, "Not Found", "Actions: read"),
        (
            403,
            "Resource not accessible by personal access token",
            "Actions: read",
        ),
        (
            403,
            "Repository was archived so is read-only.",
            "unarchive it",
        ),
    ] {
        let fake = Fake::start(move |seen, _| {
            if seen.line.contains("/acme/gone/") {
                return error_reply(status, text);
            }
            json_reply(200, &json!({"total_count": 0, "workflow_runs": []}))
        })
        .await;
        let github = fake.client();
        assert!(github.check_repository("acme", "app").await.ok);
        let found = github.check_repository("acme", "gone").await;
        assert!(!found.ok && found.what.contains("acme/gone"), "{found:?}");
        assert!(found.advice.as_ref().unwrap().contains(advice), "{found:?}");
    }
}
