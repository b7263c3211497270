//! Control of the simulator from other processes. Not GitHub's.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::api::bearer;
use crate::api::reply::{Answer, Failure, created, ok};
use crate::core::Shared;
use crate::{FaultRule, JobSpec, sim};

/// The routes under `/_sim`. A job's script runs on the runner, so they take the token.
pub(crate) fn routes(core: &Shared) -> Router {
    Router::new()
        .route("/_sim/jobs", get(jobs).post(queue))
        .route("/_sim/jobs/{id}", get(job))
        .route("/_sim/jobs/{id}/cancel", post(cancel))
        .route("/_sim/runners", get(runners))
        .route("/_sim/runners/{id}/ghost", post(ghost))
        .route("/_sim/ghosts", post(ghosts).delete(no_ghosts))
        .route("/_sim/exchanges", get(exchanges))
        .route("/_sim/faults", post(fault).delete(clear))
        .layer(from_fn_with_state(core.clone(), gate))
        .with_state(core.clone())
}

async fn gate(State(core): State<Shared>, request: Request, next: Next) -> Response {
    if bearer(request.headers()) == Some(&core.token) {
        next.run(request).await
    } else {
        Failure::unauthorized("the simulator's token is needed").into_response()
    }
}

async fn jobs(State(core): State<Shared>) -> Answer {
    let jobs = core.state().job_views();
    ok(json!({ "jobs": jobs }))
}

async fn queue(State(core): State<Shared>, Json(spec): Json<JobSpec>) -> Answer {
    let id = sim::queue(&core, spec).map_err(|e| Failure::invalid(e.to_string()))?;
    created(json!({ "id": id }))
}

async fn job(State(core): State<Shared>, Path(id): Path<u64>) -> Answer {
    let view = core.state().job(id).map(crate::state::Job::view);
    ok(json!(view.ok_or_else(Failure::not_found)?))
}

async fn cancel(State(core): State<Shared>, Path(id): Path<u64>) -> Answer {
    let cancelled = core.change(|state| state.cancel_job(id));
    ok(json!({ "cancelled": cancelled }))
}

async fn runners(State(core): State<Shared>) -> Answer {
    let (runners, created) = {
        let state = core.state();
        (state.runner_views(), state.registrations_created())
    };
    ok(json!({ "runners": runners, "registrations_created": created }))
}

async fn ghost(State(core): State<Shared>, Path(id): Path<u64>) -> Answer {
    let known = core.change(|state| state.make_ghost(id));
    ok(json!({ "ghost": known }))
}

async fn ghosts(State(core): State<Shared>) -> Answer {
    core.change(|state| state.make_ghosts(true));
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn no_ghosts(State(core): State<Shared>) -> Answer {
    core.change(|state| state.make_ghosts(false));
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn exchanges(State(core): State<Shared>) -> Answer {
    ok(json!({ "exchanges": core.exchanges.list() }))
}

async fn fault(State(core): State<Shared>, Json(rule): Json<FaultRule>) -> Answer {
    if !rule.is_valid() {
        return Err(Failure::invalid("`likelihood` must be from 0 to 1"));
    }
    core.faults.add(rule);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn clear(State(core): State<Shared>) -> Answer {
    core.faults.clear();
    Ok(StatusCode::NO_CONTENT.into_response())
}
