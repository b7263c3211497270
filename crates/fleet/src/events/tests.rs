use std::str::FromStr;

use runner_manager_core::{ExchangeFile, GuestFile};
use serde_json::{Value, json};

use super::*;

fn metrics(files: &[(ExchangeFile, &str)]) -> RunnerMetrics {
    let begin = Timestamp::from_second(1_700_000_000).unwrap();
    let mut metrics = RunnerMetrics::new("app-0123456789ab".parse().unwrap(), begin);
    for (file, text) in files {
        metrics.take(*file, GuestFile::Bytes(text.as_bytes().to_vec()));
    }
    assert!(metrics.set_aside.is_empty(), "{metrics:?}");
    metrics
}

const PRE: &str = r#"{"timestamp":1700000050.5,"workflow":"CI","workflow_run_id":"7","repository":"octo/hello","event":"push"}"#;

fn lines(metrics: &RunnerMetrics, job: Option<&JobRow>) -> Vec<Value> {
    let lines = of_runner("large", metrics, job);
    lines
        .iter()
        .map(|(_, line)| Value::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_fields_are_those_that_dashboards_read() {
    let post = r#"{"timestamp":1700000060.5,"status":"abnormal","status_info":{"code":137}}"#;
    let metrics = metrics(&[
        (ExchangeFile::Installed, "1700000040"),
        (ExchangeFile::PreJob, PRE),
        (ExchangeFile::PostJob, post),
    ]);
    let at = |second| Timestamp::from_second(second).unwrap();
    let job = JobRow {
        id: 1,
        name: "build".into(),
        repository: "octo/hello".into(),
        labels: vec!["large".into()],
        pool: None,
        status: runner_manager_store::JobStatus::Completed,
        conclusion: Some("failure".into()),
        runner: None,
        queued_at: at(1_700_000_030),
        started_at: Some(at(1_700_000_050)),
        completed_at: Some(at(1_700_000_061)),
    };
    assert_eq!(
        lines(&metrics, Some(&job)),
        [
            json!({"timestamp": 1_700_000_040.0, "event": "runner_installed", "flavor": "large", "duration": 40.0}),
            json!({"timestamp": 1_700_000_050.5, "event": "runner_start", "flavor": "large",
                "workflow": "CI", "repo": "octo/hello", "github_event": "push", "idle": 10.5,
                "queue_duration": 20.0}),
            json!({"timestamp": 1_700_000_060.5, "event": "runner_stop", "flavor": "large",
                "workflow": "CI", "repo": "octo/hello", "github_event": "push",
                "status": "abnormal", "status_info": {"code": 137}, "job_duration": 10.0,
                "job_conclusion": "failure"}),
        ]
    );
}

#[test]
fn what_is_not_known_is_left_out() {
    assert!(lines(&metrics(&[]), None).is_empty());
    let post = r#"{"timestamp":1700000040.5,"status":"normal"}"#;
    let files = [(ExchangeFile::PreJob, PRE), (ExchangeFile::PostJob, post)];
    let found = lines(&metrics(&files), None);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0]["idle"], 0.0);
    assert_eq!(found[0].get("queue_duration"), None);
    // A clock that was set back makes no negative span.
    assert_eq!(found[1]["job_duration"], 0.0);
    assert_eq!(found[1].get("status_info"), None);
    assert_eq!(found[1].get("job_conclusion"), None);
    let alone = metrics(&[(ExchangeFile::PostJob, post)]);
    assert!(
        lines(&alone, None).is_empty(),
        "a runner without a job starts and stops nothing"
    );
}

#[test]
fn a_file_that_was_moved_is_made_anew() {
    let folder = std::env::temp_dir().join(format!("events-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (file, moved) = (folder.join("events.log"), folder.join("events.log.1"));
    append(&file, "1\n").unwrap();
    append(&file, "2\n").unwrap();
    std::fs::rename(&file, &moved).unwrap();
    append(&file, "3\n").unwrap();
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "1\n2\n");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "3\n");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_runner_names_runs_of_its_pools_repositories_only() {
    let scope = |text: &str| GitHubPath::parse(text, None).unwrap();
    let named = [("Octo".to_owned(), "hello".to_owned())];
    for (path, repositories, owner, repo, wanted) in [
        ("octo", &[][..], "octo", "any", true),
        ("octo", &[], "acme", "any", false),
        ("octo", &named, "octo", "hello", true),
        ("octo", &named, "octo", "other", false),
        ("octo/hello", &[], "octo", "hello", true),
        ("octo/hello", &[], "octo", "other", false),
        ("enterprises/octo", &[], "octo", "hello", false),
        ("enterprises/octo", &named, "octo", "hello", true),
    ] {
        let found = has_jobs_of(&scope(path), repositories, owner, repo);
        assert_eq!(found, wanted, "{path} {repositories:?} {owner}/{repo}");
    }
}
