//! What a manager tells of itself over HTTP.

use std::net::TcpListener;
use std::time::Duration;

use reqwest::StatusCode;
use runner_manager_github_sim::{Conclusion, JobSpec};
use serde_json::{Value, json};

use crate::support::{DEADLINE, Place, REPO};

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_tells_how_it_is() {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut place = Place::new("max = 2\nmin_idle = 1").await;
    place.more = format!("[status]\nlisten = \"127.0.0.1:{port}\"");
    place.configure();
    let _manager = place.start();
    place
        .until("it has a database", |place| {
            place.command(&["runners", "list"]).status.success()
        })
        .await;
    let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE);
    let http = http.build().unwrap();
    let at = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let idle = |place: &Place| {
        let rows = place.json(&["runners", "list"]);
        let rows = rows.as_array().unwrap().clone();
        let mut idle = rows.into_iter().filter(|row| row["state"] == "idle");
        idle.next().map(|row| row["name"].clone())
    };
    place.until("a runner waits", |p| idle(p).is_some()).await;
    let first = idle(&place);
    let health = http.get(at("/health")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::NO_CONTENT);

    // A job comes and goes, and another runner waits in the place of the one that had it.
    let job = JobSpec::new(REPO, &["test"]).lasting(Duration::from_secs(2));
    let job = place.sim.queue_job(job).unwrap();
    let done = |place: &Place| place.sim.job(job).unwrap().conclusion == Some(Conclusion::Success);
    place.until("the job is done", done).await;
    place
        .until("only the next runner is left", |place| {
            let rows = place.json(&["runners", "list"]);
            let next = idle(place);
            rows.as_array().unwrap().len() == 1 && next.is_some() && next != first
        })
        .await;
    let waits = idle(&place).unwrap();
    let check = http.get(at("/runner/check")).send().await.unwrap();
    assert_eq!(
        check.json::<Value>().await.unwrap(),
        json!({
            "online": 1, "busy": 0, "offline": 0, "unknown": 0,
            "runners": [waits], "busy_runners": [],
        })
    );
    let answer = http.get(at("/metrics")).send().await.unwrap();
    let kind = answer.headers()["content-type"].clone();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    for line in [
        "runner_manager_runners{pool=\"test\",state=\"idle\"} 1",
        "runner_manager_pool_max_runners{pool=\"test\"} 2",
        "runner_manager_pool_queued_jobs{pool=\"test\"} 0",
        "runner_manager_pool_unreachable{pool=\"test\",side=\"github\"} 0",
        "runner_manager_launches_total{pool=\"test\",outcome=\"launched\"} 2",
        "runner_manager_job_queue_seconds_count{pool=\"test\"} 1",
        "runner_manager_job_seconds_count{pool=\"test\",status=\"normal\",conclusion=\"success\"} 1",
        "runner_manager_runner_installation_seconds_count{pool=\"test\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }

    let flush = http.post(at("/runner/flush?flush-busy=true"));
    assert_eq!(flush.send().await.unwrap().status(), StatusCode::FORBIDDEN);
}
