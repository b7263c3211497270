//! Polling for jobs again and again: what fails, what is odd, what it costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use runner_manager_core::{ErrorKind, GitHubPath, Secret};
use runner_manager_github::{
    Auth, GitHub, GitHubConfig, JobPoller, PolledJobs, Request, Response, Transport, TransportError,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fake::{Fake, Reply, Seen, error_reply, json_reply};
use crate::jobs::{job, runs};

fn repo(name: &str) -> (String, String) {
    ("o".to_owned(), name.to_owned())
}

fn ids(found: &PolledJobs) -> Vec<u64> {
    found.queued.iter().map(|job| job.id).collect()
}

/// The path of a request, and its query.
fn parts(seen: &Seen) -> (&str, &str) {
    let target = seen.line.split(' ').nth(1).unwrap();
    target.split_once('?').unwrap_or((target, ""))
}

/// The answer of a repository with one queued run, whose jobs are these.
fn one_run(seen: &Seen, jobs: &[Value]) -> Reply {
    let (path, query) = parts(seen);
    let is_listed = query.contains("status=queued");
    let body = match path {
        path if path.ends_with("/actions/runs") && is_listed => runs(&[1]),
        path if path.ends_with("/actions/runs") => runs(&[]),
        path if path.ends_with("/runs/1/jobs") => json!({"total_count": jobs.len(), "jobs": jobs}),
        _ => return error_reply(404, "Not Found"),
    };
    json_reply(200, &body)
}

#[tokio::test]
async fn a_repository_that_fails_keeps_its_jobs_and_is_named_while_others_are_read() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let fake = Fake::start(move |seen, _| {
        if seen.line.contains("/o/gone/") {
            return error_reply(404, "Not Found");
        }
        if seen.line.contains("/o/b/") && is_down.load(Ordering::SeqCst) {
            return error_reply(451, "Repository access blocked");
        }
        let id = if seen.line.contains("/o/a/") { 11 } else { 21 };
        one_run(seen, &[job(id, 1, "queued")])
    })
    .await;
    let mut poller = JobPoller::new(fake.client());
    let all = [repo("a"), repo("b"), repo("gone")];
    let found = poller.poll(&all).await;
    assert_eq!(ids(&found), [21, 11]);
    let failed: Vec<&String> = found.failed.keys().collect();
    assert_eq!(failed, ["o/gone"]);
    assert_eq!(found.failed["o/gone"].kind(), ErrorKind::NotFound);
    down.store(true, Ordering::SeqCst);
    let found = poller.poll(&all).await;
    assert_eq!(ids(&found), [21, 11], "the last good answer stays");
    let failed: Vec<&String> = found.failed.keys().collect();
    assert_eq!(failed, ["o/b", "o/gone"]);
}

#[tokio::test]
async fn an_odd_record_costs_itself_and_nothing_else() {
    let odd = |field: &str, value: Value| {
        let mut odd = job(40, 1, "queued");
        odd[field] = value;
        odd
    };
    for (record, is_read) in [
        (odd("created_at", Value::Null), true),
        (odd("created_at", json!("soon")), true),
        (odd("name", Value::Null), true),
        (odd("started_at", json!("")), true),
        (odd("run_id", json!("x")), true),
        (odd("runner_name", json!(7)), true),
        (odd("labels", json!([null])), false),
        (odd("labels", json!("big")), false),
        (odd("status", Value::Null), false),
        (odd("id", json!("40")), false),
        (Value::Null, false),
        (json!("a job"), false),
        (json!([[1]]), false),
    ] {
        let jobs = [record.clone(), job(12, 1, "queued")];
        let fake = Fake::start(move |seen, _| one_run(seen, &jobs)).await;
        let found = JobPoller::new(fake.client()).poll(&[repo("a")]).await;
        assert!(found.failed.is_empty(), "{record}: {:?}", found.failed);
        let mut ids = ids(&found);
        ids.sort_unstable();
        let wanted: &[u64] = if is_read { &[12, 40] } else { &[12] };
        assert_eq!(ids, wanted, "{record}");
    }
}

#[tokio::test]
async fn queued_jobs_of_runs_that_wait_for_something_are_found() {
    for status in ["queued", "in_progress", "waiting", "pending", "requested"] {
        let fake = Fake::start(move |seen, _| {
            let (path, query) = parts(seen);
            let is_listed = query.contains(&format!("status={status}&"));
            json_reply(
                200,
                &match path {
                    "/repos/o/a/actions/runs" if is_listed => runs(&[1]),
                    "/repos/o/a/actions/runs" => runs(&[]),
                    _ => json!({"total_count": 1, "jobs": [job(11, 1, "queued")]}),
                },
            )
        })
        .await;
        let found = JobPoller::new(fake.client()).poll(&[repo("a")]).await;
        assert_eq!(ids(&found), [11], "{status}");
    }
}

#[tokio::test]
async fn a_status_that_a_server_does_not_know_is_no_failure() {
    let fake = Fake::start(|seen, _| {
        if parts(seen).1.contains("status=requested") {
            return error_reply(422, "Validation Failed");
        }
        one_run(seen, &[job(11, 1, "queued")])
    })
    .await;
    let found = JobPoller::new(fake.client()).poll(&[repo("a")]).await;
    assert_eq!((ids(&found), found.failed.len()), (vec![11], 0));
}

#[tokio::test]
async fn runs_that_did_not_change_are_not_read_again() {
    let at = Arc::new(AtomicUsize::new(0));
    let minute = at.clone();
    let fake = Fake::start(move |seen, _| {
        let (path, query) = parts(seen);
        if path == "/repos/o/a/actions/runs" {
            let minute = minute.load(Ordering::SeqCst);
            let updated = [
                format!("2026-11-24T09:{minute:02}:00Z"),
                "2026-11-24T09:00:00Z".into(),
            ];
            let listed: Vec<Value> = if query.contains("status=queued") {
                let run = |(id, at)| json!({"id": id, "updated_at": at});
                (1..=2_u64).zip(updated).map(run).collect()
            } else {
                Vec::new()
            };
            return json_reply(
                200,
                &json!({"total_count": listed.len(), "workflow_runs": listed}),
            );
        }
        let run = if path.contains("/runs/1/") { 1 } else { 2 };
        json_reply(
            200,
            &json!({"total_count": 1, "jobs": [job(10 + run, run, "queued")]}),
        )
    })
    .await;
    let read = |fake: &Fake| {
        let lines = fake.lines().into_iter();
        lines.filter(|line| line.contains("/jobs")).count()
    };
    let mut poller = JobPoller::new(fake.client());
    for _ in 0..3 {
        assert_eq!(ids(&poller.poll(&[repo("a")]).await), [12, 11]);
    }
    assert_eq!(read(&fake), 2);
    at.store(5, Ordering::SeqCst);
    assert_eq!(ids(&poller.poll(&[repo("a")]).await), [12, 11]);
    assert_eq!(read(&fake), 3, "the one that changed");
}

#[tokio::test]
async fn a_run_that_leaves_the_lists_is_read_once_more_before_its_jobs_are_forgotten() {
    let gone = Arc::new(AtomicUsize::new(0));
    let phase = gone.clone();
    let fake = Fake::start(move |seen, _| {
        let phase = phase.load(Ordering::SeqCst);
        // In no list, as while it changes its status.
        if phase > 0 && !seen.line.contains("/jobs") {
            return json_reply(200, &runs(&[]));
        }
        let status = if phase == 2 { "completed" } else { "queued" };
        one_run(seen, &[job(11, 1, status)])
    })
    .await;
    let mut poller = JobPoller::new(fake.client());
    for (now, wanted) in [(0, vec![11]), (1, vec![11]), (2, vec![])] {
        gone.store(now, Ordering::SeqCst);
        let found = poller.poll(&[repo("a")]).await;
        assert_eq!(ids(&found), wanted, "{now}");
        assert_eq!(found.begun.contains(&11), now == 2);
    }
}

#[tokio::test]
async fn jobs_whose_long_pages_fail_are_read_in_short_ones() {
    let fake = Fake::start(|seen, _| {
        if seen.line.contains("/jobs") && seen.line.contains("per_page=100") {
            return error_reply(502, "Server Error");
        }
        one_run(seen, &[job(11, 1, "queued")])
    })
    .await;
    let found = JobPoller::new(fake.client()).poll(&[repo("a")]).await;
    assert_eq!((ids(&found), found.failed.len()), (vec![11], 0));
}

/// A GitHub within this process that has very many queued runs and tells when it was asked.
struct Crowd {
    runs: u64,
    asked: std::sync::Mutex<Vec<Instant>>,
}

impl Crowd {
    fn answer(&self, request: &Request) -> Value {
        let query = |name: &str| {
            let mut pairs = request.url.query_pairs();
            pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        if request.url.path().ends_with("/jobs") {
            let run = request.url.path().split('/').rev().nth(1).unwrap();
            let run: u64 = run.parse().unwrap();
            let mut job = job(7, run, "queued");
            job["id"] = json!(run + 100_000);
            return json!({"total_count": 1, "jobs": [job]});
        }
        if query("status").as_deref() != Some("queued") {
            return runs(&[]);
        }
        // Each run was made a second after the one before; GitHub shows the newest thousand.
        let at = |id: u64| {
            let at = jiff::Timestamp::from_second(1_700_000_000 + i64::try_from(id).unwrap());
            at.unwrap()
        };
        let until = query("created").map(|text| text.trim_start_matches("<=").parse().unwrap());
        let listed: Vec<u64> = (1..=self.runs)
            .rev()
            .filter(|id| until.is_none_or(|until: jiff::Timestamp| at(*id) <= until))
            .collect();
        let page: usize = query("page").unwrap().parse().unwrap();
        let shown = listed.iter().take(1_000).skip((page - 1) * 100).take(100);
        let run = |id: &u64| {
            let at = at(*id).to_string();
            json!({"id": id, "created_at": at, "updated_at": at})
        };
        let shown: Vec<Value> = shown.map(run).collect();
        json!({"total_count": listed.len(), "workflow_runs": shown})
    }
}

struct ToCrowd(Arc<Crowd>);

impl Transport for ToCrowd {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        self.0.asked.lock().unwrap().push(Instant::now());
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        let body = self.0.answer(&request).to_string().into_bytes();
        async move {
            Ok(Response {
                status: reqwest::StatusCode::OK,
                headers,
                body,
            })
        }
        .boxed()
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

/// Polls as the fleet does for so long, and gives what was found last.
async fn poll_for(crowd: &Arc<Crowd>, interval: Duration, length: Duration) -> PolledJobs {
    let url = url::Url::parse("http://127.0.0.1:9").unwrap();
    let config = GitHubConfig::new(url, Auth::Token(Secret::new("t")));
    let github = GitHub::over(Arc::new(ToCrowd(crowd.clone())), config).unwrap();
    let path = GitHubPath::parse("o/a", None).unwrap();
    let mut poller = JobPoller::new(github.clone());
    let begin = Instant::now();
    loop {
        let found = poller.poll(&[repo("a")]).await;
        assert!(found.failed.is_empty(), "{:?}", found.failed);
        tokio::time::sleep(interval.max(github.poll_pause(&path))).await;
        if begin.elapsed() >= length {
            return found;
        }
    }
}

/// The most requests in any minute.
fn most_in_a_minute(asked: &[Instant]) -> usize {
    let within = |from: &Instant| {
        let until = *from + Duration::from_secs(60);
        asked
            .iter()
            .filter(|at| **at >= *from && **at < until)
            .count()
    };
    asked.iter().map(within).max().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_unfinished_runs_cost_less_than_githubs_points_of_a_minute() {
    for interval in [Duration::from_secs(10), Duration::from_secs(1)] {
        let crowd = Arc::new(Crowd {
            runs: 1_000,
            asked: std::sync::Mutex::default(),
        });
        let found = poll_for(&crowd, interval, Duration::from_secs(300)).await;
        assert_eq!((found.queued.len(), found.unread_runs), (1_000, 0));
        let most = most_in_a_minute(&crowd.asked.lock().unwrap());
        assert!(most < 900, "{most} in a minute, polling every {interval:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_of_more_runs_than_github_lists_are_found() {
    let crowd = Arc::new(Crowd {
        runs: 1_500,
        asked: std::sync::Mutex::default(),
    });
    let found = poll_for(&crowd, Duration::from_secs(10), Duration::from_secs(400)).await;
    assert_eq!((found.queued.len(), found.unread_runs), (1_500, 0));
    let most = most_in_a_minute(&crowd.asked.lock().unwrap());
    assert!(most < 900, "{most} in a minute");
}
