//! A simulator without a server: the same seed gives the same answers, in any time.

use std::sync::{Arc, Mutex};

use axum::http::{HeaderMap, Method};
use jiff::Timestamp;
use runner_manager_core::ManualClock;
use runner_manager_github_sim::{
    Conclusion, DeliveryFaults, FaultAction, FaultRule, InProcess, JobSpec, JobView, Observer,
    SimConfig, WebhookConfig, WebhookDelivery,
};
use serde_json::{Value, json};

/// What an observer was told, one line each.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Told {
    fn job(&self, action: &'static str, job: &JobView) {
        self.push(format!("job {} {action} {:?}", job.id, job.runner_name));
    }

    fn runner_deleted(&self, name: &str) {
        self.push(format!("deleted {name}"));
    }

    fn webhook(&self, delivery: WebhookDelivery) {
        let action = delivery.action.unwrap_or_default();
        self.push(format!(
            "webhook {action} {} {}",
            delivery.guid, delivery.body
        ));
    }
}

fn make(seed: u64) -> (InProcess, Arc<Told>) {
    let told = Arc::new(Told::default());
    let config = SimConfig {
        token: Some("t".into()),
        webhook: Some(WebhookConfig {
            url: "http://unused".into(),
            secret: "s".into(),
        }),
        ..SimConfig::default()
    };
    let clock = Arc::new(ManualClock::new(
        Timestamp::from_second(1_767_225_600).unwrap(),
    ));
    let github = InProcess::new(config, "http://127.0.0.1:9", clock, seed, told.clone());
    (github.unwrap(), told)
}

/// The status and body of an answer, or none; with all headers as text.
async fn call(
    github: &InProcess,
    method: Method,
    path: &str,
    body: Value,
) -> Option<(u16, Value, String)> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", "Bearer t".parse().unwrap());
    let uri = format!("/api/v3/repos/acme/app/actions/{path}");
    let body = serde_json::to_vec(&body).unwrap();
    let answer = github
        .handle(method, uri.parse().unwrap(), headers, body)
        .await?;
    let json = serde_json::from_slice(answer.body()).unwrap_or_default();
    Some((
        answer.status().as_u16(),
        json,
        format!("{:?}", answer.headers()),
    ))
}

async fn registered(github: &InProcess, name: &str) -> (u64, String) {
    let body = json!({ "name": name, "runner_group_id": 1, "labels": ["x"] });
    let (status, body, headers) = call(github, Method::POST, "runners/generate-jitconfig", body)
        .await
        .unwrap();
    assert_eq!(status, 201, "{body}");
    let config = body["encoded_jit_config"].as_str().unwrap();
    (
        InProcess::runner_of(config).unwrap(),
        format!("{body}{headers}"),
    )
}

async fn story(seed: u64) -> Vec<String> {
    let (github, told) = make(seed);
    let (runner, answer) = registered(&github, "a").await;
    told.push(answer);
    assert!(github.connect(runner));
    let job = github.queue_job(JobSpec::new("acme/app", &["x"])).unwrap();
    github.finish_job(runner, job, Conclusion::Success);
    assert!(!github.has_runner(runner) && !github.connect(runner));
    told.take()
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_answers_and_events() {
    let one = story(7).await;
    assert_eq!(one, story(7).await);
    assert_ne!(one, story(8).await);
    let jobs: Vec<&str> = one
        .iter()
        .filter(|line| line.starts_with("job"))
        .map(String::as_str)
        .collect();
    let wanted = [
        "job 1001 queued None",
        "job 1001 in_progress Some(\"a\")",
        "job 1001 completed Some(\"a\")",
    ];
    assert_eq!(jobs, wanted);
    let webhooks = one.iter().filter(|line| line.starts_with("webhook"));
    assert_eq!(webhooks.count(), 3);
    // The given clock tells the date.
    assert!(
        one[0].contains("Thu, 01 Jan 2026 00:00:00 GMT"),
        "{}",
        one[0]
    );
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_vanished_gets_no_job_and_loses_its_own_once_noticed() {
    let (github, told) = make(1);
    let (idle, _) = registered(&github, "idle").await;
    assert!(github.connect(idle));
    github.vanish(idle);
    github.queue_job(JobSpec::new("acme/app", &["x"])).unwrap();
    assert!(github.runners()[0].online && !github.runners()[0].busy);
    let (other, _) = registered(&github, "other").await;
    assert!(github.connect(other));
    github.vanish(other);
    told.take();
    for runner in [idle, other] {
        github.notice(runner);
    }
    let lost = told.take();
    assert!(lost[0].starts_with("job 1001 completed"), "{lost:?}");
    assert!(github.runners().iter().all(|runner| !runner.online));
}

#[tokio::test(start_paused = true)]
async fn jobs_with_one_number_share_a_run_that_runs_while_any_of_them_does() {
    let (github, _) = make(1);
    for _ in 0..2 {
        let spec = JobSpec {
            run: Some(3),
            ..JobSpec::new("acme/app", &["x"])
        };
        github.queue_job(spec).unwrap();
    }
    let list = async |status: &str| {
        let path = format!("runs?status={status}");
        call(&github, Method::GET, &path, Value::Null)
            .await
            .unwrap()
            .1
    };
    let queued = list("queued").await;
    assert_eq!(queued["total_count"], 1);
    let run = queued["workflow_runs"][0]["id"].as_u64().unwrap();
    let jobs = format!("runs/{run}/jobs");
    let jobs = call(&github, Method::GET, &jobs, Value::Null)
        .await
        .unwrap()
        .1;
    assert_eq!(jobs["total_count"], 2);
    let (runner, _) = registered(&github, "a").await;
    github.connect(runner);
    assert_eq!(list("queued").await["total_count"], 0);
    assert_eq!(list("in_progress").await["total_count"], 1);
    github.finish_job(runner, 1_001, Conclusion::Failure);
    assert_eq!(list("queued").await["total_count"], 1);
    github.cancel_job(1_002);
    assert_eq!(list("failure").await["total_count"], 1);
}

#[tokio::test(start_paused = true)]
async fn requests_and_deliveries_go_wrong_until_faults_are_cleared() {
    let (github, told) = make(1);
    let lost = FaultRule::new("/runs", u32::MAX, FaultAction::DropAfterEffect);
    github.fault(lost.likelihood(1.0));
    github.delivery_faults(DeliveryFaults {
        lost: 0.0,
        duplicated: 1.0,
    });
    assert!(
        call(&github, Method::GET, "runs", Value::Null)
            .await
            .is_none()
    );
    github.queue_job(JobSpec::default()).unwrap();
    let twice = told.take();
    assert_eq!((twice.len(), &twice[1]), (3, &twice[2]), "{twice:?}");
    assert_eq!(github.faults_hit(), 2);
    github.clear_faults();
    let found = call(&github, Method::GET, "runs", Value::Null).await;
    assert_eq!(found.map(|(status, ..)| status), Some(200));
}
