//! The simulator as a program of its own.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

#[tokio::test]
async fn the_program_serves_and_is_controlled_over_http() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_github-sim"))
        .env("GITHUB_SIM_TOKEN", "ghp_mine")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let url = lines.next().unwrap().unwrap();
    let url = url.strip_prefix("url ").unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let call = |method: &str, path: &str, body: Value| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = http.request(method, format!("{url}/_sim/{path}"));
        request.bearer_auth("ghp_mine").json(&body).send()
    };
    let stranger = http.get(format!("{url}/_sim/jobs")).send().await.unwrap();
    assert_eq!(stranger.status(), 401, "a job's script runs on the runner");
    let queued = call("POST", "jobs", json!({ "repo": "octo/hello" }))
        .await
        .unwrap();
    let queued: Value = queued.json().await.unwrap();
    let odd = call("POST", "jobs", json!({ "repo": "octo" }))
        .await
        .unwrap();
    assert_eq!(odd.status(), 422);
    let id = &queued["id"];
    let cancelled = call("POST", &format!("jobs/{id}/cancel"), json!({}))
        .await
        .unwrap();
    assert_eq!(cancelled.json::<Value>().await.unwrap()["cancelled"], true);
    let fault = json!({ "times": 1, "action": { "status": { "status": 503 } } });
    assert_eq!(call("POST", "faults", fault).await.unwrap().status(), 204);
    let failed = http.get(format!("{url}/api/v3/meta")).send().await.unwrap();
    assert_eq!(failed.status(), 503);
    let kill = Command::new("kill").arg(program.id().to_string()).status();
    assert!(kill.unwrap().success());
    assert!(program.wait().unwrap().success());
}
