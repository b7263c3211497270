//! The session of a scale set's listener, and the queue that it reads.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{Answer, Exception, OfSet, gone, list, number, shape, show, tenant, unauthorized};
use crate::api::{bearer, pages};
use crate::core::Shared;
use crate::state::{Purpose, Scope};

#[derive(Deserialize)]
pub(super) struct Owner {
    #[serde(rename = "ownerName")]
    name: String,
}

pub(super) async fn open(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
    Json(owner): Json<Owner>,
) -> Answer {
    let id = number(&path, "id")?;
    show(&core, &scope, id)?;
    let silence = core.config.scale_sets.session_silence;
    let opened = core.change(|state| state.open_queue(id, &owner.name, silence));
    let session = opened.map_err(|_| {
        let message = "the scale set has an active session".to_owned();
        Exception(
            StatusCode::CONFLICT,
            "RunnerScaleSetSessionConflictException",
            message,
        )
    })?;
    session_shape(&core, &scope, id, &session, &owner.name)
}

fn session_shape(core: &Shared, scope: &Scope, id: u64, session: &str, owner: &str) -> Answer {
    let life = core.config.scale_sets.queue_token_lifetime;
    let mut state = core.state();
    let token = state.queue_token(id, session, life);
    let token = token.ok_or_else(|| gone("the session"))?;
    let set = state
        .scale_set(scope, id)
        .ok_or_else(|| gone("the scale set"))?;
    let queue = format!(
        "{}/tenants/{}/queues/{id}/messages?sessionId={session}",
        core.url,
        tenant(scope)
    );
    Ok(Json(json!({
        "sessionId": session,
        "ownerName": owner,
        "runnerScaleSet": shape(&state, set),
        "messageQueueUrl": queue,
        "messageQueueAccessToken": token,
        "statistics": state.statistics(id),
    }))
    .into_response())
}

pub(super) async fn renew(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
) -> Answer {
    let id = number(&path, "id")?;
    let session = path.get("session").map(String::as_str).unwrap_or_default();
    session_shape(&core, &scope, id, session, "")
}

pub(super) async fn close(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
) -> Answer {
    let id = number(&path, "id")?;
    show(&core, &scope, id)?;
    let session = path.get("session").map(String::as_str).unwrap_or_default();
    let closed = core.change(|state| state.close_queue(id, session));
    closed.ok_or_else(|| gone("the session"))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The session that a queue token opens.
fn session_of(core: &Shared, headers: &HeaderMap, set: u64) -> Result<String, Exception> {
    let token = bearer(headers).unwrap_or_default();
    match core.state().purpose(token) {
        Some(Purpose::Queue(id, session)) if *id == set => Ok(session.clone()),
        _ => Err(unauthorized()),
    }
}

pub(super) async fn acquire(
    State(core): State<Shared>,
    headers: HeaderMap,
    path: OfSet,
    Json(requests): Json<Vec<u64>>,
) -> Answer {
    let id = number(&path, "id")?;
    session_of(&core, &headers, id)?;
    let got = core.change(|state| state.acquire(id, &requests));
    let got: Vec<Value> = got.into_iter().map(Value::from).collect();
    Ok(list(&got))
}

/// The jobs that are offered and not acquired; no content where there are none.
pub(super) async fn acquirable(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
) -> Answer {
    let id = number(&path, "id")?;
    show(&core, &scope, id)?;
    let offers = core.state().acquirable(id);
    if offers.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(list(&offers))
}

pub(super) async fn poll(
    State(core): State<Shared>,
    headers: HeaderMap,
    path: OfSet,
    uri: Uri,
) -> Answer {
    let id = number(&path, "id")?;
    let session = session_of(&core, &headers, id)?;
    let last = pages::parameter(&uri, "lastMessageId");
    let last = last.and_then(|text| text.parse().ok()).unwrap_or(0);
    let capacity = headers.get("x-scalesetmaxcapacity");
    let capacity = capacity.and_then(|value| value.to_str().ok()?.parse().ok());
    let capacity = capacity.unwrap_or(usize::MAX);
    let deadline = Instant::now() + core.config.scale_sets.patience.min(Duration::from_secs(50));
    let known = core.change(|state| state.advertise(id, &session, capacity));
    known.ok_or_else(|| gone("the session"))?;
    loop {
        let changed = core.changed();
        tokio::pin!(changed);
        // What changes from here on is noticed, even before the wait.
        changed.as_mut().enable();
        let message = core.state().message(id, &session, last);
        if let Some(message) = message.map_err(|()| gone("the session"))? {
            return Ok(Json(message).into_response());
        }
        if timeout_at(deadline, changed).await.is_err() {
            return Ok(StatusCode::ACCEPTED.into_response());
        }
    }
}

pub(super) async fn acknowledge(
    State(core): State<Shared>,
    headers: HeaderMap,
    path: OfSet,
) -> Answer {
    let id = number(&path, "id")?;
    session_of(&core, &headers, id)?;
    let message = number(&path, "message")?;
    if !core.state().acknowledge(id, message) {
        return Err(gone("the message"));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
