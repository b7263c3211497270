//! What the stand-in runner talks to. Private to this crate, not GitHub's.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::Conclusion;
use crate::api::reply::{Answer, Failure, created, ok};
use crate::api::{refuse, settings};
use crate::core::Shared;
use crate::state::{Job, NewRunner, Opened, Purpose, Refusal, Scope, Work, check_request};

/// How long a listener's question whether its job was cancelled waits at most.
const CANCEL_POLL: Duration = Duration::from_secs(1);

/// The routes of the private protocol.
pub(crate) fn routes(core: &Shared) -> Router {
    Router::new()
        .route("/_runner/register", post(register))
        .route("/_runner/remove", post(remove))
        .route("/_runner/session", post(session))
        .route("/_runner/poll", post(poll))
        .route("/_runner/jobs/{id}/started", post(started))
        .route("/_runner/jobs/{id}/watch", post(watch))
        .route("/_runner/jobs/{id}/completed", post(completed))
        .route("/_runner/goodbye", post(goodbye))
        .with_state(core.clone())
}

#[derive(Deserialize)]
struct Registration {
    /// The path of the scope's web address.
    path: String,
    token: String,
    name: String,
    labels: Vec<String>,
    group: Option<String>,
    ephemeral: bool,
    replace: bool,
    work_folder: String,
}

async fn register(State(core): State<Shared>, Json(asked): Json<Registration>) -> Answer {
    check_request(&asked.name, &asked.labels).map_err(Failure::invalid)?;
    let named = Scope::from_web_path(&asked.path).ok_or_else(Failure::not_found)?;
    let found = core.state().find_scope(&named);
    let scope = found.ok_or_else(Failure::not_found)?;
    let register = Purpose::Register(scope.clone());
    let group = asked.group.unwrap_or_else(|| "Default".into());
    let group_id = {
        let state = core.state();
        if state.purpose(&asked.token) != Some(&register) {
            return Err(Failure::unauthorized("the registration token is not valid"));
        }
        let is = |known: &String| known.eq_ignore_ascii_case(&group);
        state.groups().iter().position(is).map(|at| at + 1)
    };
    let group_id = group_id.and_then(|id| u64::try_from(id).ok());
    let new = NewRunner {
        scope: scope.clone(),
        name: asked.name.clone(),
        labels: asked.labels,
        group_id: group_id.ok_or_else(Failure::not_found)?,
        ephemeral: asked.ephemeral,
        jit: false,
    };
    let body = core.change(|state| {
        if let Some(old) = state.named(&scope, &asked.name).filter(|_| asked.replace) {
            state.delete_runner(&scope, old)?;
        }
        let runner = state.register(new)?;
        let settings = settings(&core, runner, &asked.work_folder);
        Ok::<Value, Refusal>(json!({ "settings": settings, "secret": runner.secret }))
    });
    body.map_err(refuse).and_then(created)
}

#[derive(Deserialize)]
struct Removal {
    runner: u64,
    token: String,
}

async fn remove(State(core): State<Shared>, Json(asked): Json<Removal>) -> Answer {
    core.change(|state| {
        let Some(Purpose::Remove(scope)) = state.purpose(&asked.token).cloned() else {
            return Err(Failure::unauthorized("the remove token is not valid"));
        };
        state.delete_runner(&scope, asked.runner).map_err(refuse)
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
struct Hello {
    runner: u64,
    secret: String,
    nonce: String,
}

async fn session(State(core): State<Shared>, Json(hello): Json<Hello>) -> Response {
    let opened = core.change(|state| state.open(hello.runner, &hello.secret, &hello.nonce));
    match opened {
        Opened::Session(id) => Json(json!({ "session": id })).into_response(),
        Opened::Unknown => Failure::not_found().into_response(),
        Opened::Conflict => conflict(false),
        Opened::Used => conflict(true),
    }
}

/// Another listener has the session: for now, or for good.
fn conflict(is_final: bool) -> Response {
    let body = json!({ "message": "the runner has a session already", "final": is_final });
    (StatusCode::CONFLICT, Json(body)).into_response()
}

#[derive(Deserialize)]
struct InSession {
    session: String,
    #[serde(default)]
    conclusion: Option<Conclusion>,
}

/// A request that waits in a session; the session knows when it ends, however it ends.
struct Waiting<'a>(&'a Shared, &'a str);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().leave(self.1);
    }
}

/// Waits for a while until there is something to say to this session.
async fn wait<T>(
    core: &Shared,
    session: &str,
    patience: Duration,
    mut look: impl FnMut(&crate::state::State) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let entered = core.state().enter(session);
    let (_, notify) = entered.ok_or_else(Failure::not_found)?;
    let _waiting = Waiting(core, session);
    let deadline = Instant::now() + patience;
    loop {
        let told = notify.notified();
        tokio::pin!(told);
        // What is told from here on is heard, even before the wait.
        told.as_mut().enable();
        if let Some(found) = look(&core.state()) {
            return Ok(Some(found));
        }
        if timeout_at(deadline, told).await.is_err() {
            return Ok(None);
        }
    }
}

async fn poll(State(core): State<Shared>, Json(asked): Json<InSession>) -> Answer {
    let session = &asked.session;
    let found = wait(&core, session, core.config.poll, |state| {
        match state.work(session) {
            Work::Gone => Some(None),
            Work::Nothing => None,
            Work::Job(job) => Some(Some(job)),
        }
    });
    match found.await? {
        None => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(None) => Err(Failure::not_found()),
        Some(Some(job)) => ok(describe(&core, &job)),
    }
}

/// What the worker needs to know of a job.
fn describe(core: &Shared, job: &Job) -> Value {
    json!({
        "id": job.id,
        "run_id": job.run_id(),
        "name": job.spec.name,
        "workflow": job.spec.workflow,
        "repository": job.spec.repo,
        "event": job.spec.event,
        "branch": job.spec.branch,
        "duration_ms": job.spec.duration_ms,
        "script": job.spec.script,
        "conclusion": job.spec.conclusion,
        "server_url": core.url,
    })
}

async fn started(
    State(core): State<Shared>,
    Path(job): Path<u64>,
    Json(asked): Json<InSession>,
) -> Answer {
    let begun = core.change(|state| {
        let (runner, _) = state.enter(&asked.session)?;
        state.leave(&asked.session);
        Some(state.begin(runner, job))
    });
    match begun {
        None => Err(Failure::not_found()),
        Some(go) => ok(json!({ "go": go })),
    }
}

async fn watch(
    State(core): State<Shared>,
    Path(_): Path<u64>,
    Json(asked): Json<InSession>,
) -> Answer {
    let session = &asked.session;
    let patience = CANCEL_POLL.min(core.config.poll);
    let found = wait(&core, session, patience, |state| {
        match state.is_cancelled(session) {
            None => Some(Err(Failure::not_found())),
            Some(true) => Some(Ok(())),
            Some(false) => None,
        }
    });
    match found.await? {
        None => ok(json!({ "cancelled": false })),
        Some(Ok(())) => ok(json!({ "cancelled": true })),
        Some(Err(gone)) => Err(gone),
    }
}

async fn completed(
    State(core): State<Shared>,
    Path(job): Path<u64>,
    Json(asked): Json<InSession>,
) -> Answer {
    let conclusion = asked.conclusion;
    let conclusion = conclusion.ok_or_else(|| Failure::invalid("conclusion is missing"))?;
    let done = core.change(|state| {
        let (runner, _) = state.enter(&asked.session)?;
        state.leave(&asked.session);
        state.finish(runner, job, conclusion);
        Some(())
    });
    done.ok_or_else(Failure::not_found)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn goodbye(State(core): State<Shared>, Json(asked): Json<InSession>) -> Answer {
    core.change(|state| state.close(&asked.session));
    Ok(StatusCode::NO_CONTENT.into_response())
}
