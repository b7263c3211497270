//! Calls about GitHub itself.

use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::json;

use super::gate;
use super::reply::{Answer, ok};
use crate::core::Shared;

/// `GET /meta`: needs no credential.
pub(crate) async fn meta(State(core): State<Shared>) -> Answer {
    ok(json!({
        "verifiable_password_authentication": false,
        "domains": { "website": [core.url.trim_start_matches("http://")] },
    }))
}

/// `GET /rate_limit`: free.
pub(crate) async fn rate_limit(State(core): State<Shared>, headers: HeaderMap) -> Answer {
    let token = gate::token(&headers).unwrap_or_default();
    let spent = core.state().spend(token, 0, core.config.rate_limit);
    let rate = json!({
        "limit": spent.limit,
        "remaining": spent.limit.saturating_sub(spent.used),
        "used": spent.used,
        "reset": spent.reset,
    });
    let resources = json!({ "core": rate, "search": rate });
    ok(json!({ "resources": resources, "rate": rate }))
}
