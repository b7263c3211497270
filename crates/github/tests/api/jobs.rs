//! Polled jobs.

use runner_manager_core::ErrorKind;
use serde_json::{Value, json};

use crate::fake::{Fake, error_reply, json_reply};

pub(crate) fn job(id: u64, run: u64, status: &str) -> Value {
    json!({
        "id": id, "run_id": run, "name": format!("build {id}"), "status": status,
        "conclusion": null, "labels": ["self-hosted", "big"], "runner_name": "",
        "created_at": format!("2026-11-24T09:{:02}:00Z", 59 - id), "started_at": "2026-11-24T09:59:00Z",
        "completed_at": null, "steps": [], "workflow_name": "ci", "head_branch": "main",
    })
}

pub(crate) fn runs(ids: &[u64]) -> Value {
    let runs: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
    json!({"total_count": ids.len(), "workflow_runs": runs})
}

#[tokio::test]
async fn queued_jobs_come_from_queued_and_running_runs() {
    let fake = Fake::start(|seen, _| {
        let path = seen.line.split(' ').nth(1).unwrap();
        json_reply(
            200,
            &match path.split('?').next().unwrap() {
                "/repos/o/a/actions/runs" if path.contains("status=queued") => runs(&[1, 2]),
                "/repos/o/a/actions/runs" if path.contains("status=in_progress") => runs(&[2, 3]),
                path if path.ends_with("/actions/runs") => runs(&[]),
                "/repos/o/a/actions/runs/1/jobs" => {
                    json!({"total_count": 1, "jobs": [job(11, 1, "queued")]})
                }
                "/repos/o/a/actions/runs/2/jobs" => json!({"total_count": 3, "jobs": [
                    job(21, 2, "completed"), job(22, 2, "queued"), job(23, 2, "waiting")]}),
                // Run 3 was deleted since.
                _ => return error_reply(404, "Not Found"),
            },
        )
    })
    .await;
    let github = fake.client();
    let repo = |name: &str| ("o".to_owned(), name.to_owned());
    let jobs = github
        .queued_jobs(&[repo("a"), repo("b"), repo("a")])
        .await
        .unwrap();
    let found: Vec<(u64, u64)> = jobs.iter().map(|job| (job.id, job.run_id)).collect();
    assert_eq!(found, [(22, 2), (11, 1)], "oldest first, none twice");
    let first = &jobs[0];
    assert_eq!((first.owner.as_str(), first.repo.as_str()), ("o", "a"));
    assert_eq!(
        (first.runner_name.as_deref(), first.conclusion.as_deref()),
        (None, None)
    );
    assert_eq!(first.labels, ["self-hosted", "big"]);
    assert_eq!(fake.lines().len(), 13);
}

#[tokio::test]
async fn the_job_of_a_runner_is_found_in_its_run() {
    let fake = Fake::start(|seen, _| {
        let mut taken = job(12, 1, "completed");
        taken["runner_name"] = json!("app-0123456789ab");
        match seen.line.split(' ').nth(1).unwrap() {
            path if path.starts_with("/repos/o/a/actions/runs/1/jobs?filter=all") => json_reply(
                200,
                &json!({"total_count": 2, "jobs": [job(11, 1, "queued"), taken]}),
            ),
            _ => error_reply(404, "Not Found"),
        }
    })
    .await;
    let github = fake.client();
    let of = async |run, runner: &str| {
        let found = github.job_of_runner("o", "a", run, runner).await.unwrap();
        found.map(|job| job.id)
    };
    assert_eq!(of(1, "app-0123456789ab").await, Some(12));
    assert_eq!(of(1, "app-0123456789ac").await, None);
    assert_eq!(of(2, "app-0123456789ab").await, None, "the run is gone");
}

#[tokio::test]
async fn a_failing_repository_fails_the_poll() {
    let fake = Fake::start(|seen, _| {
        if seen.line.contains("/o/bad/") {
            return error_reply(404, "Not Found");
        }
        json_reply(200, &runs(&[]))
    })
    .await;
    let repos = ["good", "bad"].map(|name| ("o".to_owned(), name.to_owned()));
    let error = fake.client().queued_jobs(&repos).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("/o/bad/"), "{error}");
}

#[tokio::test]
async fn one_job_is_read_or_is_none() {
    let fake = Fake::start(|seen, _| match seen.line.as_str() {
        "GET /repos/o/a/actions/jobs/5" => json_reply(200, &job(5, 1, "in_progress")),
        _ => error_reply(404, "Not Found"),
    })
    .await;
    let github = fake.client();
    let job = github.job("o", "a", 5).await.unwrap().unwrap();
    assert_eq!((job.id, job.status.as_str()), (5, "in_progress"));
    assert_eq!(github.job("o", "a", 6).await.unwrap(), None);
}

#[tokio::test]
async fn names_with_escape_sequences_are_escaped_and_cut() {
    let fake = Fake::start(|_, _| {
        let mut odd = job(5, 1, "queued");
        odd["name"] = json!(format!("\u{1b}[2Jx\u{7}\u{202e}{}", "y".repeat(300_000)));
        odd["runner_name"] = json!("app\u{1b}]0;x\u{7}");
        odd["labels"] = json!(["big\r\n"]);
        json_reply(200, &odd)
    })
    .await;
    let job = fake.client().job("o", "a", 5).await.unwrap().unwrap();
    assert!(
        job.name.starts_with("\\u{1b}[2Jx\\u{7}\\u{202e}yy"),
        "{}",
        job.name
    );
    assert!(job.name.len() < 500);
    assert_eq!(job.runner_name.as_deref(), Some("app\\u{1b}]0;x\\u{7}"));
    assert_eq!(job.labels, ["big\\u{d}\\u{a}"]);
}
