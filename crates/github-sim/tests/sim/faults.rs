//! Faults on demand, as the real client sees them.

use runner_manager_core::ErrorKind;
use runner_manager_github_sim::{FaultAction, FaultRule};

use crate::support::{REPO, client, path, request, sim};

#[tokio::test]
async fn every_status_comes_on_demand_and_is_understood() {
    let sim = sim().await;
    let github = client(&sim, sim.token());
    let limited = FaultAction::status(403)
        .header("x-ratelimit-limit", "5000")
        .header("x-ratelimit-remaining", "0");
    let limited = limited.header("x-ratelimit-reset", "9999999999");
    for (action, kind) in [
        (FaultAction::status(401), ErrorKind::Unauthenticated),
        (FaultAction::status(403), ErrorKind::PermissionDenied),
        (FaultAction::status(404), ErrorKind::NotFound),
        (FaultAction::status(409), ErrorKind::AlreadyExists),
        (FaultAction::status(422), ErrorKind::InvalidRequest),
        (limited, ErrorKind::RateLimited),
    ] {
        // A client remembers a limit; each case has its own.
        let github = client(&sim, sim.token());
        sim.fault(FaultRule::new("generate-jitconfig", 1, action.clone()));
        let error = github
            .jit_config(&path(REPO), &request("app-1"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{action:?}: {error}");
    }
    sim.fault(FaultRule::new(
        "/runners",
        u32::MAX,
        FaultAction::Html { status: 200 },
    ));
    let error = github.runners(&path(REPO)).await.unwrap_err();
    assert!(error.to_string().contains("instead of JSON"), "{error}");
    sim.clear_faults();
    assert_eq!(
        sim.registrations_created(),
        0,
        "a refused request has no effect"
    );
    github.runners(&path(REPO)).await.unwrap();
}

#[tokio::test]
async fn an_answer_can_be_lost_before_and_after_its_effect() {
    let sim = sim().await;
    let github = client(&sim, sim.token());
    for (action, made) in [
        (FaultAction::DropConnection, 0),
        (FaultAction::DropAfterEffect, 1),
    ] {
        sim.fault(FaultRule::new("generate-jitconfig", u32::MAX, action));
        github
            .jit_config(&path(REPO), &request("app-1"))
            .await
            .unwrap_err();
        sim.clear_faults();
        assert_eq!(sim.registrations_created(), made);
    }
    let statuses: Vec<_> = sim.exchanges().into_iter().map(|e| e.status).collect();
    assert!(statuses.iter().all(Option::is_none), "{statuses:?}");
    sim.fault(FaultRule::new("/runners", 1, FaultAction::Latency(5)).method("GET"));
    assert_eq!(github.runners(&path(REPO)).await.unwrap().runners.len(), 1);
}
