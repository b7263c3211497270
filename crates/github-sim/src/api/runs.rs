//! Workflow runs and their jobs. Every run has one job.

use axum::extract::State;
use axum::http::Uri;
use serde_json::Value;

use super::reply::{Answer, Failure, ok};
use super::runners::{Id, InScope};
use super::{pages, shapes};
use crate::core::Shared;
use crate::state::Job;

/// `GET …/actions/runs`, newest first.
pub(crate) async fn list(State(core): State<Shared>, scope: InScope, uri: Uri) -> Answer {
    let status = pages::parameter(&uri, "status");
    let wanted = |job: &&Job| {
        let is = |status: &String| {
            let conclusion = job.conclusion.map(crate::Conclusion::as_str);
            job.status.as_str() == status || conclusion == Some(status)
        };
        status.as_ref().is_none_or(is)
    };
    let repo = scope.0.web_path();
    let mut items: Vec<Value> = {
        let state = core.state();
        let found = state.jobs_of(&repo).filter(wanted);
        found.map(|job| shapes::run(&core, job)).collect()
    };
    items.reverse();
    pages::wrapped(&core, &uri, "workflow_runs", &items)
}

/// `GET …/actions/runs/{id}`.
pub(crate) async fn one(State(core): State<Shared>, scope: InScope, Id(id): Id) -> Answer {
    let repo = scope.0.web_path();
    let state = core.state();
    let job = state.jobs_of(&repo).find(|job| job.run_id() == id);
    ok(shapes::run(&core, job.ok_or_else(Failure::not_found)?))
}

/// `GET …/actions/runs/{id}/jobs`.
pub(crate) async fn jobs(
    State(core): State<Shared>,
    scope: InScope,
    Id(id): Id,
    uri: Uri,
) -> Answer {
    let repo = scope.0.web_path();
    let job = {
        let state = core.state();
        let job = state.jobs_of(&repo).find(|job| job.run_id() == id);
        shapes::job(&core.url, job.ok_or_else(Failure::not_found)?)
    };
    pages::wrapped(&core, &uri, "jobs", &[job])
}

/// `GET …/actions/jobs/{id}`.
pub(crate) async fn job(State(core): State<Shared>, scope: InScope, Id(id): Id) -> Answer {
    let repo = scope.0.web_path();
    let state = core.state();
    let job = state.job(id);
    let job = job.filter(|job| job.spec.repo.eq_ignore_ascii_case(&repo));
    ok(shapes::job(&core.url, job.ok_or_else(Failure::not_found)?))
}
