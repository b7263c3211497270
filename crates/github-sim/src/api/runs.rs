//! Workflow runs and their jobs.

use axum::extract::State;
use axum::http::Uri;
use jiff::Timestamp;

use super::reply::{Answer, Failure, ok};
use super::runners::{Id, InScope};
use super::{pages, shapes};
use crate::core::Shared;

/// How many runs GitHub shows of a list that is filtered.
const SHOWN: usize = 1_000;

/// `GET …/actions/runs`, newest first. Of `created`, `<=TIME` is known.
pub(crate) async fn list(State(core): State<Shared>, scope: InScope, uri: Uri) -> Answer {
    let status = pages::parameter(&uri, "status");
    let repo = scope.0.web_path();
    let state = core.state();
    let mut runs = state.runs_of(&repo, status.as_deref());
    let created = pages::parameter(&uri, "created");
    if let Some(until) = created.as_deref().and_then(|text| text.strip_prefix("<=")) {
        let until: Timestamp = until
            .parse()
            .map_err(|_| Failure::invalid("`created` is no time"))?;
        // Times are shown in whole seconds.
        runs.retain(|run| run.first.queued_at.as_second() <= until.as_second());
    }
    let shown = if status.is_some() || created.is_some() {
        SHOWN
    } else {
        usize::MAX
    };
    pages::wrapped_up_to(&core, &uri, "workflow_runs", (&runs, shown), |run| {
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
