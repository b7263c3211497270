//! Webhooks: those of Apps, organizations and repositories, and what became of their deliveries.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{Answer, Failure, created, ok};
use super::runners::{HookId, Id, InScope};
use super::{pages, shapes};
use crate::core::{Core, Shared};
use crate::state::Scope;
use crate::webhook::{APP_HOOK, Hook, HookChange};

/// What a client asks for; what is left out stays as it is.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Wanted {
    name: Option<String>,
    config: Config,
    events: Option<Vec<String>>,
    active: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct Config {
    url: Option<String>,
    content_type: Option<String>,
    secret: Option<String>,
}

impl Wanted {
    fn change(self) -> HookChange {
        HookChange {
            url: self.config.url,
            content_type: self.config.content_type,
            secret: self.config.secret,
            events: self.events,
            active: self.active,
        }
    }
}

fn config_shape(hook: &Hook) -> Value {
    let mut shape = json!({
        "url": hook.url,
        "content_type": hook.content_type,
        "insecure_ssl": "0",
    });
    if !hook.secret.is_empty() {
        shape["secret"] = json!("********");
    }
    shape
}

fn shape(core: &Core, hook: &Hook) -> Value {
    let scope = hook.scope.as_ref().map(Scope::api_path).unwrap_or_default();
    let url = format!("{}/{scope}/hooks/{}", core.api_url(), hook.id);
    let kind = match hook.scope {
        Some(Scope::Org(_)) => "Organization",
        _ => "Repository",
    };
    json!({
        "type": kind,
        "id": hook.id,
        "name": "web",
        "active": hook.active,
        "events": hook.events,
        "config": config_shape(hook),
        "updated_at": shapes::time(hook.made_at),
        "created_at": shapes::time(hook.made_at),
        "url": url,
        "test_url": format!("{url}/test"),
        "ping_url": format!("{url}/pings"),
        "deliveries_url": format!("{url}/deliveries"),
        "last_response": { "code": null, "status": "unused", "message": null },
    })
}

/// `GET …/hooks`.
pub(crate) async fn list(State(core): State<Shared>, scope: InScope, uri: Uri) -> Answer {
    let hooks = core.webhooks.hooks_of(&scope.0);
    let items: Vec<Value> = hooks.iter().map(|hook| shape(&core, hook)).collect();
    pages::bare(&core, &uri, &items)
}

/// `POST …/hooks`.
pub(crate) async fn make(
    State(core): State<Shared>,
    scope: InScope,
    Json(wanted): Json<Wanted>,
) -> Answer {
    if wanted.name.as_deref().is_some_and(|name| name != "web") || wanted.config.url.is_none() {
        return Err(Failure::invalid("Validation Failed"));
    }
    let known = core.webhooks.hooks_of(&scope.0);
    if known
        .iter()
        .any(|hook| Some(&hook.url) == wanted.config.url.as_ref())
    {
        return Err(Failure::invalid(
            "Hook already exists on this repository or organization",
        ));
    }
    let hook = core.webhooks.make_hook(scope.0, wanted.change());
    core.webhooks.ping(&hook);
    created(shape(&core, &hook))
}

fn of(core: &Core, scope: &Scope, id: u64) -> Result<Hook, Failure> {
    let mut hooks = core.webhooks.hooks_of(scope).into_iter();
    hooks
        .find(|hook| hook.id == id)
        .ok_or_else(Failure::not_found)
}

/// `GET …/hooks/{hook}`.
pub(crate) async fn one(State(core): State<Shared>, scope: InScope, HookId(id): HookId) -> Answer {
    ok(shape(&core, &of(&core, &scope.0, id)?))
}

/// `PATCH …/hooks/{hook}`.
pub(crate) async fn change(
    State(core): State<Shared>,
    scope: InScope,
    HookId(id): HookId,
    Json(wanted): Json<Wanted>,
) -> Answer {
    of(&core, &scope.0, id)?;
    core.webhooks.change_hook(id, wanted.change());
    ok(shape(&core, &of(&core, &scope.0, id)?))
}

/// `DELETE …/hooks/{hook}`.
pub(crate) async fn delete(
    State(core): State<Shared>,
    scope: InScope,
    HookId(id): HookId,
) -> Answer {
    of(&core, &scope.0, id)?;
    core.webhooks.drop_hook(id);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST …/hooks/{hook}/pings`.
pub(crate) async fn ping(State(core): State<Shared>, scope: InScope, HookId(id): HookId) -> Answer {
    core.webhooks.ping(&of(&core, &scope.0, id)?);
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /app/hook/config`.
pub(crate) async fn app_config(State(core): State<Shared>) -> Answer {
    let hook = core
        .webhooks
        .hook(APP_HOOK)
        .ok_or_else(Failure::not_found)?;
    ok(config_shape(&hook))
}

/// `PATCH /app/hook/config`.
pub(crate) async fn change_app_config(
    State(core): State<Shared>,
    Json(config): Json<Config>,
) -> Answer {
    let wanted = Wanted {
        config,
        ..Wanted::default()
    };
    core.webhooks.change_hook(APP_HOOK, wanted.change());
    app_config(State(core)).await
}

/// The deliveries of a webhook, newest first, behind cursors.
fn deliveries(core: &Core, hook: u64, uri: &Uri) -> Answer {
    let all = core.webhooks.list(hook);
    let wanted = |delivery: &&Value| {
        let code = delivery["status_code"].as_u64().unwrap_or(0);
        match pages::parameter(uri, "status").as_deref() {
            Some("failure") => !(200..400).contains(&code),
            Some("success") => (200..400).contains(&code),
            _ => true,
        }
    };
    let cursor = pages::parameter(uri, "cursor").and_then(|text| text.parse::<u64>().ok());
    let after = |delivery: &&Value| {
        let id = delivery["id"].as_u64().unwrap_or(0);
        cursor.is_none_or(|cursor| id < cursor)
    };
    let size = pages::parameter(uri, "per_page").and_then(|text| text.parse().ok());
    let size = size.unwrap_or(30_usize).clamp(1, 100);
    let found: Vec<&Value> = all
        .iter()
        .filter(wanted)
        .filter(after)
        .take(size + 1)
        .collect();
    let page = &found[..found.len().min(size)];
    let mut response: Response = ok(json!(page))?;
    if let (true, Some(last)) = (found.len() > size, page.last()) {
        let query = uri.query().unwrap_or_default();
        let kept = query.split('&').filter(|pair| !pair.starts_with("cursor="));
        let kept: Vec<&str> = kept.collect();
        let next = format!(
            "<{}{}?{}&cursor={}>; rel=\"next\"",
            core.api_url(),
            uri.path(),
            kept.join("&"),
            last["id"]
        );
        if let Ok(value) = HeaderValue::from_str(&next) {
            response.headers_mut().insert(header::LINK, value);
        }
    }
    Ok(response)
}

/// `GET …/hooks/{hook}/deliveries`.
pub(crate) async fn hook_deliveries(
    State(core): State<Shared>,
    scope: InScope,
    HookId(id): HookId,
    uri: Uri,
) -> Answer {
    of(&core, &scope.0, id)?;
    deliveries(&core, id, &uri)
}

/// `GET /app/hook/deliveries`.
pub(crate) async fn app_deliveries(State(core): State<Shared>, uri: Uri) -> Answer {
    deliveries(&core, APP_HOOK, &uri)
}

/// `GET …/deliveries/{id}`.
pub(crate) async fn delivery(State(core): State<Shared>, Id(id): Id) -> Answer {
    ok(core.webhooks.one(id).ok_or_else(Failure::not_found)?)
}

/// `POST …/deliveries/{id}/attempts`.
pub(crate) async fn redeliver(State(core): State<Shared>, Id(id): Id) -> Answer {
    if !core.webhooks.redeliver(id) {
        return Err(Failure::not_found());
    }
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}
