//! The simulated GitHub's answers: the part of its API that the fleet uses.

mod service;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use jiff::fmt::rfc2822::DateTimePrinter;
use rand::RngExt;
use reqwest::StatusCode;
use reqwest::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use runner_manager_core::{Error, ErrorKind};
use runner_manager_github::{Request, Response, Transport, TransportError};
use serde_json::{Value, json};

use crate::hub::{Refusal, Registration};
use crate::world::{State, World, job_json};

/// The way from the client to the world.
pub(crate) struct Line(pub(crate) Arc<World>);

impl Transport for Line {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        self.answer(request).boxed()
    }

    fn jitter(&self) -> f64 {
        self.0.state().rng.random_range(0.0..1.0)
    }
}

impl Line {
    async fn answer(&self, request: Request) -> Result<Response, TransportError> {
        let world = &self.0;
        world.step().await;
        world.lag(20..400).await;
        self.await_news(&request).await;
        let (answer, lost) = {
            let mut state = world.state();
            state.tally.github_calls += 1;
            if world.is_github_down(&mut state) {
                let body = json!({ "message": "We could not respond in time" });
                (self.reply(502, &body, Vec::new()), false)
            } else if world.strikes(&mut state, |f| f.github_throttled) {
                let body = json!({ "message": "You have exceeded a secondary rate limit" });
                let after = state.rng.random_range(1..90_u64);
                let wait = ("retry-after", after.to_string());
                (self.reply(429, &body, vec![wait]), false)
            } else if world.strikes(&mut state, |f| f.github_error) {
                let body = json!({ "message": "Bad Gateway" });
                (self.reply(502, &body, Vec::new()), false)
            } else {
                let (status, body) = self.route(&mut state, &request);
                let lost = world.strikes(&mut state, |f| f.github_unanswered);
                let (method, path) = (&request.method, request.url.path());
                let message = method == "GET" && path.ends_with("/messages");
                if message && status == 200 && !lost {
                    world.heard_of_sets(&mut state);
                }
                world.note(
                    &mut state,
                    format_args!("{method} {path} {status}, lost: {lost}"),
                );
                (self.tagged(&request, status, &body), lost)
            }
        };
        world.step().await;
        if lost {
            let error = Error::new(ErrorKind::Unreachable, "the simulated connection broke off");
            return Err(TransportError::Unanswered(error));
        }
        Ok(answer)
    }

    fn reply(&self, status: u16, body: &Value, more: Vec<(&'static str, String)>) -> Response {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&self.0.now());
        let mut headers = more;
        headers.push(("date", date.unwrap_or_default()));
        headers.push(("content-type", "application/json".into()));
        let pair = |(name, value): (&'static str, String)| {
            let value = HeaderValue::from_str(&value).ok()?;
            Some((HeaderName::from_static(name), value))
        };
        Response {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY),
            headers: headers.into_iter().filter_map(pair).collect::<HeaderMap>(),
            body,
        }
    }

    /// The answer with its tag, or without its body when the client has it.
    fn tagged(&self, request: &Request, status: u16, body: &Value) -> Response {
        if status != 200 {
            return self.reply(status, body, Vec::new());
        }
        let mut answer = self.reply(status, body, Vec::new());
        let mut hash = DefaultHasher::new();
        answer.body.hash(&mut hash);
        let tag = format!("\"{:016x}\"", hash.finish());
        let known = request.headers.get(IF_NONE_MATCH);
        if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
            return self.reply(304, &Value::Null, Vec::new());
        }
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            answer.headers.insert(ETAG, tag);
        }
        answer
    }

    fn route(&self, state: &mut State, request: &Request) -> (u16, Value) {
        let path = request.url.path();
        if path == "/api/v3/actions/runner-registration" {
            return service::connection();
        }
        if path.starts_with("/tenants/") {
            return self.service(state, request);
        }
        let path = path.trim_start_matches("/api/v3/repos/acme/app/actions/");
        let parts: Vec<&str> = path.split('/').collect();
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["runners"]) => list_runners(state, request),
            ("POST", ["runners", "generate-jitconfig"]) => register(state, request),
            ("POST", ["runners", "remove-token" | "registration-token"]) => {
                let ends = self.0.now().saturating_add(SignedDuration::from_hours(1));
                let ends = ends.unwrap_or(jiff::Timestamp::MAX);
                (201, json!({ "token": "AAAA", "expires_at": ends }))
            }
            ("DELETE", ["runners", id]) => self.delete(state, number(id)),
            ("GET", ["runs"]) => list_runs(state, request),
            ("GET", ["runs", id, "jobs"]) => list_jobs(state, request, number(id)),
            ("GET", ["jobs", id]) => match state.hub.jobs.get(&number(id)) {
                Some(job) => (200, job_json(job)),
                None => not_found(),
            },
            _ => not_found(),
        }
    }

    fn delete(&self, state: &mut State, id: u64) -> (u16, Value) {
        match state.hub.delete(id) {
            Ok(name) => {
                self.0.check_removal(state, &name);
                self.0.end_listener(state, &name);
                (204, Value::Null)
            }
            Err(Refusal::Busy) => {
                let message = "Bad request - Runner is currently running a job";
                (422, json!({ "message": message }))
            }
            Err(Refusal::NotFound | Refusal::NameTaken) => not_found(),
        }
    }
}

fn not_found() -> (u16, Value) {
    (404, json!({ "message": "Not Found" }))
}

fn runner_json(runner: &Registration) -> Value {
    let labels: Vec<Value> = runner
        .labels
        .iter()
        .map(|name| json!({ "id": 1, "name": name, "type": "custom" }))
        .collect();
    json!({
        "id": runner.id,
        "name": runner.name,
        "os": "linux",
        "status": if runner.online { "online" } else { "offline" },
        "busy": runner.job.is_some(),
        "labels": labels,
    })
}

fn register(state: &mut State, request: &Request) -> (u16, Value) {
    let body = request.body.clone().unwrap_or_default();
    let name = body["name"].as_str().unwrap_or_default();
    let labels = body["labels"].as_array().into_iter().flatten();
    let labels = labels.filter_map(|label| Some(label.as_str()?.to_lowercase()));
    match state.hub.register(name, labels.collect()) {
        Ok(id) => {
            let runner = runner_json(&state.hub.runners[&id]);
            let config = id.to_string();
            (
                201,
                json!({ "runner": runner, "encoded_jit_config": config }),
            )
        }
        Err(_) => (409, json!({ "message": "Already exists" })),
    }
}

fn list_runners(state: &State, request: &Request) -> (u16, Value) {
    let all = state.hub.runners.values();
    if let Some(name) = parameter(request, "name") {
        let found = state
            .hub
            .named(&name)
            .and_then(|id| state.hub.runners.get(&id));
        return page(request, "runners", found.iter().copied(), runner_json);
    }
    page(request, "runners", all, runner_json)
}

fn list_runs(state: &State, request: &Request) -> (u16, Value) {
    let wanted = parameter(request, "status").unwrap_or_default();
    let runs = state.hub.open_runs.iter().filter(|(_, (queued, running))| {
        let is_running = *running > 0;
        (wanted == "in_progress" && is_running)
            || (wanted == "queued" && *queued > 0 && !is_running)
    });
    page(
        request,
        "workflow_runs",
        runs,
        |(id, _)| json!({ "id": id }),
    )
}

fn list_jobs(state: &State, request: &Request, run: u64) -> (u16, Value) {
    let jobs = state.hub.of_run(run).iter();
    let jobs = jobs.filter_map(|id| state.hub.jobs.get(id));
    page(request, "jobs", jobs, job_json)
}

fn parameter(request: &Request, key: &str) -> Option<String> {
    let mut pairs = request.url.query_pairs();
    pairs
        .find(|(k, _)| k == key)
        .map(|(_, value)| value.into_owned())
}

fn page<T>(
    request: &Request,
    field: &str,
    all: impl Iterator<Item = T>,
    show: impl Fn(T) -> Value,
) -> (u16, Value) {
    let number = |key| parameter(request, key).and_then(|text| text.parse::<usize>().ok());
    let (size, page) = (
        number("per_page").unwrap_or(30),
        number("page").unwrap_or(1),
    );
    let all: Vec<T> = all.collect();
    let total = all.len();
    let shown = all.into_iter().skip(size * (page - 1)).take(size).map(show);
    let items: Vec<Value> = shown.collect();
    (200, json!({ "total_count": total, field: items }))
}
