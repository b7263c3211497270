//! The HTTP interfaces: GitHub's own below `/api/v3`, the stand-in runner's below `/_runner`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::server::Shared;
use crate::world::job_json;

/// How long a runner's question for a job is held open.
const POLL: Duration = Duration::from_secs(1);

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(handle).with_state(shared)
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if let Some(path) = uri.path().strip_prefix("/_runner/") {
        return runner(&shared, path, &body).await;
    }
    let Some(path) = uri.path().strip_prefix("/api/v3/") else {
        return missing();
    };
    if path == "meta" {
        return Json(json!({ "verifiable_password_authentication": false })).into_response();
    }
    let given = headers
        .get("authorization")
        .and_then(|h| h.to_str().ok())
        .unwrap_or_default();
    let token = given.split_once(' ').map_or("", |(_, token)| token);
    if token != shared.token {
        return refuse(StatusCode::UNAUTHORIZED, "Bad credentials");
    }
    shared.world().settle();
    rest(
        &shared,
        &method,
        path,
        uri.query().unwrap_or_default(),
        &body,
    )
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (
        status,
        Json(json!({ "message": message, "documentation_url": "", "status": status.as_str() })),
    )
        .into_response()
}

fn missing() -> Response {
    refuse(StatusCode::NOT_FOUND, "Not Found")
}

fn parameter<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

fn rest(shared: &Shared, method: &Method, path: &str, query: &str, body: &Value) -> Response {
    let Some((scope, action)) = path.split_once("/actions/") else {
        return missing();
    };
    let parts: Vec<&str> = action.split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("POST", ["runners", "registration-token" | "remove-token"]) => {
            let expires_at = Timestamp::now() + SignedDuration::from_hours(1);
            let answer = json!({ "token": shared.token, "expires_at": expires_at.to_string() });
            (StatusCode::CREATED, Json(answer)).into_response()
        }
        ("POST", ["runners", "generate-jitconfig"]) => jit_config(shared, scope, body),
        ("GET", ["runners"]) => {
            let world = shared.world();
            let named = parameter(query, "name");
            let ids = world
                .runners
                .iter()
                .filter(|(_, r)| r.scope == scope && named.is_none_or(|name| r.name == name));
            let all: Vec<Value> = ids.map(|(id, _)| world.runner_json(*id)).collect();
            paged("runners", &all, query)
        }
        ("GET" | "DELETE", ["runners", id]) => one_runner(shared, method, scope, id),
        ("GET", ["runs"]) => {
            let world = shared.world();
            let status = parameter(query, "status").unwrap_or_default();
            let runs = world.jobs.values().filter(|job| {
                scope.ends_with(&job.spec.repository) && (status.is_empty() || job.status == status)
            });
            let all: Vec<Value> = runs.map(job_json).collect();
            paged("workflow_runs", &all, query)
        }
        ("GET", ["runs", id, "jobs"]) => match job(shared, id) {
            Some(job) => paged("jobs", &[job], query),
            None => missing(),
        },
        ("GET", ["jobs", id]) => {
            job(shared, id).map_or_else(missing, |job| Json(job).into_response())
        }
        _ => missing(),
    }
}

fn job(shared: &Shared, id: &str) -> Option<Value> {
    shared.world().jobs.get(&id.parse().ok()?).map(job_json)
}

fn paged(key: &str, all: &[Value], query: &str) -> Response {
    let number = |key, default| {
        parameter(query, key)
            .and_then(|n| n.parse().ok())
            .unwrap_or(default)
    };
    let per_page: usize = number("per_page", 30).clamp(1, 100);
    let page: usize = number("page", 1).max(1);
    let items: Vec<&Value> = all
        .iter()
        .skip((page - 1) * per_page)
        .take(per_page)
        .collect();
    Json(json!({ "total_count": all.len(), key: items })).into_response()
}

fn jit_config(shared: &Shared, scope: &str, body: &Value) -> Response {
    let Some(name) = body["name"].as_str() else {
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, "name is missing");
    };
    let labels = strings(&body["labels"]);
    let mut world = shared.world();
    let Some((id, secret)) = world.register(scope, name, labels) else {
        return refuse(
            StatusCode::CONFLICT,
            "Already exists - A runner with this name exists",
        );
    };
    let config = json!({ "url": shared.url, "secret": secret }).to_string();
    let answer = json!({
        "runner": world.runner_json(id),
        "encoded_jit_config": STANDARD.encode(config),
    });
    (StatusCode::CREATED, Json(answer)).into_response()
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn one_runner(shared: &Shared, method: &Method, scope: &str, id: &str) -> Response {
    let mut world = shared.world();
    let Some((id, runner)) = id
        .parse::<u64>()
        .ok()
        .and_then(|id| Some((id, world.runners.get(&id)?)))
        .filter(|(_, runner)| runner.scope == scope)
    else {
        return missing();
    };
    if method == Method::GET {
        return Json(world.runner_json(id)).into_response();
    }
    if runner.job.is_some() {
        let message = "Bad request - Runner is currently running a job and cannot be deleted";
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, message);
    }
    world.runners.remove(&id);
    StatusCode::NO_CONTENT.into_response()
}

/// The stand-in runner's side.
async fn runner(shared: &Shared, path: &str, body: &Value) -> Response {
    if path == "register" {
        if body["token"].as_str() != Some(&shared.token) {
            return refuse(StatusCode::UNAUTHORIZED, "wrong registration token");
        }
        let (scope, name) = (body["scope"].as_str(), body["name"].as_str());
        let (Some(scope), Some(name)) = (scope, name) else {
            return missing();
        };
        return match shared
            .world()
            .register(scope, name, strings(&body["labels"]))
        {
            Some((_, secret)) => Json(json!({ "secret": secret })).into_response(),
            None => refuse(StatusCode::CONFLICT, "a runner with this name exists"),
        };
    }
    let secret = body["secret"].as_str().unwrap_or_default();
    let Some(id) = shared.world().by_secret(secret).map(|(id, _)| id) else {
        return missing();
    };
    match path {
        "poll" => poll(shared, id).await,
        "alive" => StatusCode::NO_CONTENT.into_response(),
        "done" => {
            let mut world = shared.world();
            let conclusion = if body["exit_code"] == 0 {
                "success"
            } else {
                "failure"
            };
            // An ephemeral runner is taken off the list with its job.
            if let Some(job) = world.runners.remove(&id).and_then(|runner| runner.job) {
                world.complete(job, conclusion);
            }
            StatusCode::NO_CONTENT.into_response()
        }
        _ => missing(),
    }
}

async fn poll(shared: &Shared, id: u64) -> Response {
    let deadline = tokio::time::Instant::now() + POLL;
    loop {
        let queued = shared.queued.notified();
        if let Some(job) = shared.world().assign(id) {
            let answer = json!({
                "id": job.id,
                "repository": job.spec.repository,
                "milliseconds": u64::try_from(job.spec.duration.as_millis()).unwrap_or(u64::MAX),
                "exit_code": job.spec.exit_code,
            });
            return Json(answer).into_response();
        }
        if tokio::time::timeout_at(deadline, queued).await.is_err() {
            return StatusCode::NO_CONTENT.into_response();
        }
    }
}
