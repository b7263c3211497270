//! Who may pass: credentials, rate limits, unchanged answers.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::jwt;
use super::reply::{Failure, error_body};
use crate::core::Shared;
use crate::state::{Purpose, Spent};

/// The most that an answer holds: 100 workflow runs are about 1 MB.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What the paths of registrations end with.
const REGISTRATIONS: [&str; 3] = [
    "/registration-token",
    "/remove-token",
    "/generate-jitconfig",
];

/// The App that a request comes from, by its place among those of the simulator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AppPlace(pub(crate) usize);

/// The token of a request, as `Bearer` or `token`.
pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let known = scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token");
    known.then(|| token.trim())
}

/// Lets pass what has the personal token or an installation token, within its rate limit.
pub(crate) async fn by_token(State(core): State<Shared>, request: Request, next: Next) -> Response {
    let Some(token) = token(request.headers()).map(str::to_owned) else {
        return Failure::unauthorized("Requires authentication").into_response();
    };
    let is_registration = REGISTRATIONS
        .iter()
        .any(|path| request.uri().path().ends_with(path));
    let (limit, resource) = match core.config.registration_limit {
        Some(limit) if is_registration => (limit, "actions_runner_registration"),
        _ => (core.config.rate_limit, "core"),
    };
    let account = match resource {
        "core" => token.clone(),
        other => format!("{token} {other}"),
    };
    let is_free = request.uri().path().ends_with("/rate_limit");
    let spent = {
        let mut state = core.state();
        let installed = matches!(state.purpose(&token), Some(Purpose::Installation(_)));
        (installed || token == core.token)
            .then(|| state.spend(&account, u32::from(!is_free), limit))
    };
    let Some(mut spent) = spent else {
        return Failure::unauthorized("Bad credentials").into_response();
    };
    let mut response = if spent.exceeded {
        let message = "API rate limit exceeded for this token.";
        let body = error_body(StatusCode::FORBIDDEN, message);
        (StatusCode::FORBIDDEN, axum::Json(body)).into_response()
    } else {
        let wanted = request.headers().get(header::IF_NONE_MATCH).cloned();
        let method = request.method().clone();
        let response = next.run(request).await;
        let response = tag(&method, wanted.as_ref(), response).await;
        if response.status() == StatusCode::NOT_MODIFIED {
            core.state().refund(&account);
            spent.used = spent.used.saturating_sub(1);
        }
        response
    };
    show(&mut response, &spent, resource);
    response
}

/// Lets pass what has a valid proof of the App.
pub(crate) async fn by_app(
    State(core): State<Shared>,
    mut request: Request,
    next: Next,
) -> Response {
    let checked = match token(request.headers()) {
        None => Err(Failure::unauthorized(
            "A JSON web token could not be decoded",
        )),
        Some(proof) => jwt::check(&core, proof),
    };
    match checked {
        Ok(place) => {
            request.extensions_mut().insert(AppPlace(place));
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

/// What every answer has: a request id, the API's version.
pub(crate) async fn etag(State(core): State<Shared>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let version = HeaderValue::from_static("github.v3; format=json");
    headers.insert("x-github-media-type", version);
    if let Ok(id) = HeaderValue::from_str(&core.environment.rng.guid()) {
        headers.insert("x-github-request-id", id);
    }
    response
}

/// Tags an answer to a GET, and leaves its body out when the client has it already.
async fn tag(method: &Method, wanted: Option<&HeaderValue>, response: Response) -> Response {
    if method != Method::GET || response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, MAX_ANSWER).await else {
        let why = "the answer is too large".to_owned();
        return Failure(StatusCode::INTERNAL_SERVER_ERROR, why).into_response();
    };
    let mut hash = Sha256::new();
    hash.update(&bytes);
    if let Some(link) = parts.headers.get(header::LINK) {
        hash.update(link.as_bytes());
    }
    let tag: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    let tag = format!("W/\"{tag}\"");
    let known = wanted.and_then(|wanted| wanted.to_str().ok());
    let same = known.is_some_and(|known| known.split(',').any(|one| bare(one) == bare(&tag)));
    if let Ok(value) = HeaderValue::from_str(&tag) {
        parts.headers.insert(header::ETAG, value);
    }
    if !same {
        return Response::from_parts(parts, Body::from(bytes));
    }
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    Response::from_parts(parts, Body::empty())
}

/// Weak and strong tags are compared alike.
fn bare(tag: &str) -> &str {
    tag.trim().trim_start_matches("W/")
}

fn show(response: &mut Response, spent: &Spent, resource: &'static str) {
    let headers = response.headers_mut();
    let remaining = spent.limit.saturating_sub(spent.used);
    for (name, value) in [
        ("x-ratelimit-limit", u64::from(spent.limit)),
        ("x-ratelimit-remaining", u64::from(remaining)),
        ("x-ratelimit-used", u64::from(spent.used)),
        ("x-ratelimit-reset", u64::try_from(spent.reset).unwrap_or(0)),
    ] {
        headers.insert(name, HeaderValue::from(value));
    }
    headers.insert("x-ratelimit-resource", HeaderValue::from_static(resource));
}
