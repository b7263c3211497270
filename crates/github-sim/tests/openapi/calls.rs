//! Every answer of the simulator against GitHub's own description of its API, and every request
//! of the client.

use runner_manager_core::Secret;
use runner_manager_github::HookSpec;
use serde_json::{Value, json};

use crate::description::description;
use crate::support::{client, job, path, request, send, sim};

#[tokio::test]
async fn every_answer_is_as_github_describes_it() {
    let (sim, description) = (sim().await, description());
    let id = sim.queue_job(job()).unwrap();
    let run = sim.job(id).unwrap().run_id;
    let jit = |name: &str| json!({ "name": name, "runner_group_id": 1, "labels": ["x"] });
    let mut calls: Vec<(&str, String, Option<Value>, u16)> = vec![
        ("GET", "/meta".into(), None, 200),
        ("GET", "/rate_limit".into(), None, 200),
        ("GET", "/repos/acme/app/actions/runs".into(), None, 200),
        (
            "GET",
            "/repos/acme/app/actions/runs?status=queued".into(),
            None,
            200,
        ),
        (
            "GET",
            format!("/repos/acme/app/actions/runs/{run}"),
            None,
            200,
        ),
        (
            "GET",
            format!("/repos/acme/app/actions/runs/{run}/jobs"),
            None,
            200,
        ),
        (
            "GET",
            format!("/repos/acme/app/actions/jobs/{id}"),
            None,
            200,
        ),
        ("GET", "/orgs/acme/actions/runner-groups".into(), None, 200),
        (
            "GET",
            "/enterprises/acme-inc/actions/runner-groups".into(),
            None,
            200,
        ),
    ];
    for (number, scope) in ["orgs/acme", "repos/acme/app", "enterprises/acme-inc"]
        .iter()
        .enumerate()
    {
        let runners = format!("/{scope}/actions/runners");
        let make = format!("{runners}/generate-jitconfig");
        let first = number + 1;
        calls.extend([
            ("POST", format!("{runners}/registration-token"), None, 201),
            ("POST", format!("{runners}/remove-token"), None, 201),
            ("POST", make.clone(), Some(jit("a")), 201),
            ("POST", make.clone(), Some(jit("a")), 409),
            ("POST", make.clone(), Some(jit("a/b")), 422),
            ("GET", runners.clone(), None, 200),
            ("GET", format!("{runners}?name=a&per_page=1"), None, 200),
            ("GET", format!("{runners}/{first}"), None, 200),
            ("DELETE", format!("{runners}/{first}"), None, 204),
        ]);
    }
    for scope in ["orgs/acme", "repos/acme/app"] {
        let hooks = format!("/{scope}/hooks");
        let hook = json!({ "name": "web", "active": true, "events": ["workflow_job"],
            "config": { "url": format!("http://127.0.0.1:9/{scope}"), "content_type": "json",
                "secret": "x", "insecure_ssl": "0" } });
        // The ids count on from the Apps' webhook.
        let id = if scope.starts_with("orgs") { 2 } else { 3 };
        calls.extend([
            ("POST", hooks.clone(), Some(hook.clone()), 201),
            ("POST", hooks.clone(), Some(hook), 422),
            ("GET", hooks.clone(), None, 200),
            ("GET", format!("{hooks}/{id}"), None, 200),
            (
                "PATCH",
                format!("{hooks}/{id}"),
                Some(json!({ "active": false })),
                200,
            ),
            ("POST", format!("{hooks}/{id}/pings"), None, 204),
            ("GET", format!("{hooks}/{id}/deliveries"), None, 200),
            ("DELETE", format!("{hooks}/{id}"), None, 204),
        ]);
    }
    for (method, path, body, status) in calls {
        if let Some(body) = &body {
            description.check_request(method, &path, body);
        }
        let answer = send(&sim, method, &path, body).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        description.check(method, &path, status, &body);
    }
    assert!(description.finds_fault("GET", "/rate_limit", 200, &json!({ "rate": 1 })));
}

#[tokio::test]
async fn every_request_of_the_client_is_one_that_github_describes() {
    let (sim, description) = (sim().await, description());
    let github = client(&sim, sim.token());
    sim.queue_job(job()).unwrap();
    for scope in ["acme", "acme/app", "enterprises/acme-inc"] {
        let scope = path(scope);
        github.check(&scope).await;
        github.registration_token(&scope).await.unwrap();
        github.remove_token(&scope).await.unwrap();
        let runner = github
            .jit_config(&scope, &request("app-1"))
            .await
            .unwrap()
            .runner;
        github.runners(&scope).await.unwrap();
        github
            .runner_by_name(&scope, "app-1")
            .await
            .unwrap()
            .unwrap();
        github.delete_runner(&scope, runner.id).await.unwrap();
    }
    let hook = HookSpec {
        url: "http://127.0.0.1:9/webhook".parse().unwrap(),
        secret: Secret::new("x"),
    };
    for scope in ["acme", "acme/app"] {
        let (place, _) = github.install_hook(&path(scope), &hook).await.unwrap();
        github.install_hook(&path(scope), &hook).await.unwrap();
        github.ping_hook(&place).await.unwrap();
        let failed = github.failed_deliveries(&place, jiff::Timestamp::UNIX_EPOCH);
        failed.await.unwrap();
    }
    let repository = [("acme".to_owned(), "app".to_owned())];
    let id = github.queued_jobs(&repository).await.unwrap()[0].id;
    github.job("acme", "app", id).await.unwrap().unwrap();
    let made = sim.exchanges();
    assert!(made.len() > 20, "{}", made.len());
    for exchange in made {
        description.check_query(
            &exchange.method,
            exchange.path.trim_start_matches("/api/v3"),
        );
    }
}
