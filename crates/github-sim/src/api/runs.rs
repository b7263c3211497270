//! Workflow runs and their jobs.

use axum::extract::State;
use axum::http::Uri;

use super::reply::{Answer, Failure, ok};
use super::runners::{Id, InScope};
use super::{pages, shapes};
use crate::core::Shared;

/// `GET …/actions/runs`, newest first.
pub(crate) async fn list(State(core): State<Shared>, scope: InScope, uri: Uri) -> Answer {
    let status = pages::parameter(&uri, "status");
    let repo = scope.0.web_path();
    let state = core.state();
    let runs = state.runs_of(&repo, status.as_deref());
    pages::wrapped(&core, &uri, "workflow_runs", &runs, |run| {
        shapes::run(&core, run)
    })
}

/// `GET …/actions/runs/{id}`.
pub(crate) async fn one(State(core): State<Shared>, scope: InScope, Id(id): Id) -> Answer {
    let state = core.state();
    let run = state.run(&scope.0.web_path(), id);
    ok(shapes::run(&core, &run.ok_or_else(Failure::not_found)?))
}

/// `GET …/actions/runs/{id}/jobs`.
pub(crate) async fn jobs(
    State(core): State<Shared>,
    scope: InScope,
    Id(id): Id,
    uri: Uri,
) -> Answer {
    let state = core.state();
    let run = state.run(&scope.0.web_path(), id);
    let run = run.ok_or_else(Failure::not_found)?;
    pages::wrapped(&core, &uri, "jobs", &run.jobs, |job| {
        shapes::job(&core.url, job)
    })
}

/// `GET …/actions/jobs/{id}`.
pub(crate) async fn job(State(core): State<Shared>, scope: InScope, Id(id): Id) -> Answer {
    let repo = scope.0.web_path();
    let state = core.state();
    let job = state.job(id);
    let job = job.filter(|job| job.spec.repo.eq_ignore_ascii_case(&repo));
    ok(shapes::job(&core.url, job.ok_or_else(Failure::not_found)?))
}
