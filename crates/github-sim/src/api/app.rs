//! GitHub Apps: installations and their tokens.

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::gate::AppPlace;
use super::reply::{Answer, Failure, created, ok};
use super::runners::{Id, InScope};
use super::{pages, shapes};
use crate::core::{Core, Shared};
use crate::state::{Purpose, Scope};

/// Installation ids are this plus the number of the account.
const FIRST: u64 = 50_000_000;

fn permissions() -> Value {
    json!({
        "actions": "read",
        "administration": "write",
        "metadata": "read",
        "organization_self_hosted_runners": "write",
    })
}

fn app_id(core: &Core, app: AppPlace) -> u64 {
    core.config.apps.get(app.0).map_or(0, |app| app.id)
}

/// `GET /app`.
pub(crate) async fn app(State(core): State<Shared>, Extension(app): Extension<AppPlace>) -> Answer {
    let id = app_id(&core, app);
    let at = shapes::time(Timestamp::UNIX_EPOCH);
    ok(json!({
        "id": id,
        "slug": "runner-manager",
        "node_id": format!("A_{id}"),
        "owner": shapes::user(&core.url, "acme", "Organization"),
        "name": "Runner Manager",
        "description": "",
        "external_url": format!("{}/about", core.url),
        "html_url": format!("{}/apps/runner-manager", core.url),
        "created_at": at,
        "updated_at": at,
        "permissions": permissions(),
        "events": ["workflow_job"],
    }))
}

/// The installation of an account. A repository's is its owner's.
fn shape(core: &Core, scope: &Scope, app: AppPlace) -> Value {
    let (account, kind) = match scope {
        Scope::Enterprise(name) => (enterprise(core, name), "Enterprise"),
        Scope::Org(name) | Scope::Repo(name, _) => (
            shapes::user(&core.url, name, "Organization"),
            "Organization",
        ),
    };
    let account_number = shapes::number(&format!("{kind}/{}", scope.account()));
    let id = FIRST + account_number * 16 + u64::try_from(app.0).unwrap_or(0);
    let at = shapes::time(Timestamp::UNIX_EPOCH);
    json!({
        "id": id,
        "account": account,
        "repository_selection": "all",
        "access_tokens_url": format!("{}/app/installations/{id}/access_tokens", core.api_url()),
        "repositories_url": format!("{}/installation/repositories", core.api_url()),
        "html_url": format!("{}/settings/installations/{id}", core.url),
        "app_id": app_id(core, app),
        "app_slug": "runner-manager",
        "target_id": shapes::number(scope.account()),
        "target_type": kind,
        "permissions": permissions(),
        "events": ["workflow_job"],
        "created_at": at,
        "updated_at": at,
        "single_file_name": null,
        "suspended_by": null,
        "suspended_at": null,
    })
}

fn enterprise(core: &Core, slug: &str) -> Value {
    json!({
        "id": shapes::number(slug),
        "node_id": format!("E_{}", shapes::number(slug)),
        "name": slug,
        "slug": slug,
        "html_url": format!("{}/enterprises/{slug}", core.url),
        "created_at": null,
        "updated_at": null,
        "avatar_url": format!("{}/avatars/{slug}", core.url),
    })
}

fn all(core: &Core, app: AppPlace) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for scope in core.state().scopes() {
        let one = shape(core, scope, app);
        if !all.iter().any(|known| known["id"] == one["id"]) {
            all.push(one);
        }
    }
    all
}

/// `GET …/installation` of any scope.
pub(crate) async fn installation(
    State(core): State<Shared>,
    Extension(app): Extension<AppPlace>,
    scope: InScope,
) -> Answer {
    ok(shape(&core, &scope.0, app))
}

/// `GET /app/installations`.
pub(crate) async fn installations(
    State(core): State<Shared>,
    Extension(app): Extension<AppPlace>,
    uri: Uri,
) -> Answer {
    pages::bare(&core, &uri, &all(&core, app))
}

/// `POST /app/installations/{id}/access_tokens`.
pub(crate) async fn access_token(
    State(core): State<Shared>,
    Extension(app): Extension<AppPlace>,
    Id(id): Id,
) -> Answer {
    if !all(&core, app).iter().any(|known| known["id"] == id) {
        return Err(Failure::not_found());
    }
    let life = core.config.apps.get(app.0).map(|app| app.token_lifetime);
    let life = life.ok_or_else(Failure::not_found)?;
    let (token, expires_at) = core.state().issue(Purpose::Installation(id), life);
    created(json!({
        "token": token,
        "expires_at": shapes::time(expires_at),
        "permissions": permissions(),
        "repository_selection": "all",
    }))
}
