//! Pages, tags, limits, scopes.

use std::time::Duration;

use runner_manager_core::ErrorKind;
use runner_manager_github_sim::{HeldRun, JobSpec, RateLimit, Sim, SimConfig};

use crate::support::{REPO, client, path, request, send, sim};

#[tokio::test]
async fn names_are_taken_once_and_credentials_are_checked() {
    let sim = sim().await;
    let github = client(&sim, sim.token());
    github
        .jit_config(&path(REPO), &request("app-1"))
        .await
        .unwrap();
    let twice = github
        .jit_config(&path(REPO), &request("APP-1"))
        .await
        .unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    let stranger = client(&sim, "ghp_wrong")
        .runners(&path(REPO))
        .await
        .unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Unauthenticated);
    for scope in ["nobody", "acme/nothing", "enterprises/none"] {
        let unknown = github.runners(&path(scope)).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::NotFound, "{scope}");
    }
}

#[tokio::test]
async fn lists_come_in_pages_with_links_and_a_total() {
    let sim = sim().await;
    let github = client(&sim, sim.token());
    for number in 0..105 {
        let name = format!("app-{number}");
        github
            .jit_config(&path("acme"), &request(&name))
            .await
            .unwrap();
    }
    assert_eq!(
        github.runners(&path("acme")).await.unwrap().runners.len(),
        105
    );
    let page = send(
        &sim,
        "GET",
        "/orgs/acme/actions/runners?per_page=50&page=2",
        None,
    )
    .await;
    let link = page.headers()["link"].to_str().unwrap().to_owned();
    assert!(link.contains("page=3>; rel=\"next\"") && link.contains("page=1>; rel=\"prev\""));
    let body: serde_json::Value = page.json().await.unwrap();
    assert_eq!(body["total_count"], 105);
    assert_eq!(body["runners"].as_array().unwrap().len(), 50);
}

#[tokio::test]
async fn an_unchanged_answer_is_free_and_the_limit_is_kept() {
    let rate_limit = RateLimit {
        limit: 3,
        window: Duration::from_secs(3_600),
    };
    let config = SimConfig {
        rate_limit,
        ..SimConfig::default()
    };
    let sim = Sim::start(config).await.unwrap();
    let list = "/orgs/acme/actions/runners";
    let first = send(&sim, "GET", list, None).await;
    assert_eq!(first.headers()["x-ratelimit-remaining"], "2");
    let tag = first.headers()["etag"].clone();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..5 {
        let again = client
            .get(format!("{}{list}", sim.api_url()))
            .bearer_auth(sim.token())
            .header("if-none-match", &tag)
            .send()
            .await
            .unwrap();
        assert_eq!(again.status(), 304);
        assert_eq!(again.headers()["x-ratelimit-remaining"], "2");
    }
    for _ in 0..2 {
        assert_eq!(send(&sim, "GET", list, None).await.status(), 200);
    }
    let refused = send(&sim, "GET", list, None).await;
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "0");
    let github = crate::support::client(&sim, sim.token());
    let error = github.runners(&path("acme")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error}");
}

#[tokio::test]
async fn registrations_may_have_a_limit_of_their_own() {
    let registration_limit = Some(RateLimit {
        limit: 1,
        window: Duration::from_secs(3_600),
    });
    let config = SimConfig {
        registration_limit,
        ..SimConfig::default()
    };
    let sim = Sim::start(config).await.unwrap();
    let tokens = "/orgs/acme/actions/runners/registration-token";
    assert_eq!(send(&sim, "POST", tokens, None).await.status(), 201);
    let refused = send(&sim, "POST", tokens, None).await;
    assert_eq!(refused.status(), 403);
    let resource = &refused.headers()["x-ratelimit-resource"];
    assert_eq!(resource, "actions_runner_registration");
    let list = send(&sim, "GET", "/orgs/acme/actions/runners", None).await;
    assert_eq!(list.status(), 200);
    assert_eq!(list.headers()["x-ratelimit-resource"], "core");
}

#[tokio::test]
async fn a_held_run_shows_its_status_and_runs_are_listed_by_age() {
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    let job = JobSpec::new("acme/app", &["linux"]).held(HeldRun::Waiting);
    sim.queue_job(job).unwrap();
    let total = async |query: &str| {
        let path = format!("/repos/acme/app/actions/runs?{query}");
        let listed: serde_json::Value = send(&sim, "GET", &path, None).await.json().await.unwrap();
        listed["total_count"].clone()
    };
    assert_eq!(total("status=waiting").await, 1);
    assert_eq!(total("status=queued").await, 0);
    assert_eq!(
        total("status=waiting&created=<=2999-01-01T00:00:00Z").await,
        1
    );
    assert_eq!(
        total("status=waiting&created=<=1999-01-01T00:00:00Z").await,
        0
    );
    let downloads = send(&sim, "GET", "/orgs/acme/actions/runners/downloads", None).await;
    let downloads: serde_json::Value = downloads.json().await.unwrap();
    assert_eq!(downloads[0]["architecture"], "x64");
}
