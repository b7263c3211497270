//! The Actions service behind scale sets.
//!
//! Its shapes are those of GitHub's public client for scale sets, `actions/scaleset`.

mod queue;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::runners::encode;
use crate::core::Shared;
use crate::state::{NewScaleSet, Purpose, Refusal, Runner, ScaleSet, Scope, State as Model};

/// An error in the service's form: its class, and what it says.
struct Exception(StatusCode, &'static str, String);

type Answer = Result<Response, Exception>;

impl IntoResponse for Exception {
    fn into_response(self) -> Response {
        let Self(status, class, message) = self;
        let body = json!({
            "$id": "1",
            "innerException": null,
            "message": message,
            "typeName": format!("GitHub.Actions.{class}, GitHub.Actions"),
            "typeKey": class,
            "errorCode": 0,
            "eventId": 3000,
        });
        (status, Json(body)).into_response()
    }
}

fn refuse(refusal: Refusal) -> Exception {
    let (status, class) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "AgentNotFoundException"),
        Refusal::NameTaken => (StatusCode::CONFLICT, "AgentExistsException"),
        Refusal::Busy => (StatusCode::BAD_REQUEST, "JobStillRunningException"),
        Refusal::Full => (StatusCode::BAD_REQUEST, "AgentPoolFullException"),
    };
    Exception(status, class, format!("refused: {refusal:?}"))
}

fn gone(what: &str) -> Exception {
    let message = format!("{what} was not found");
    Exception(
        StatusCode::NOT_FOUND,
        "RunnerScaleSetNotFoundException",
        message,
    )
}

fn unauthorized() -> Exception {
    let message = "the token is not valid or has expired".to_owned();
    Exception(
        StatusCode::UNAUTHORIZED,
        "UnauthorizedRequestException",
        message,
    )
}

/// The answer to a token that is not good any more.
pub(crate) fn refused() -> Response {
    unauthorized().into_response()
}

/// The routes of the service: each scope is a tenant of its own.
pub(crate) fn routes(core: &Shared) -> Router<Shared> {
    let sets = "/_apis/runtime/runnerscalesets";
    let agents = "/_apis/distributedtask/pools/0/agents";
    let service = Router::new()
        .route(sets, get(find).post(make))
        .route(
            &format!("{sets}/{{id}}"),
            get(one).patch(change).delete(remove),
        )
        .route(&format!("{sets}/{{id}}/sessions"), post(queue::open))
        .route(
            &format!("{sets}/{{id}}/sessions/{{session}}"),
            axum::routing::patch(queue::renew).delete(queue::close),
        )
        .route(&format!("{sets}/{{id}}/generatejitconfig"), post(jit))
        .route(
            &format!("{sets}/{{id}}/acquirablejobs"),
            get(queue::acquirable),
        )
        .route("/_apis/runtime/runnergroups/", get(groups))
        .route(agents, get(agent_named))
        .route(&format!("{agents}/{{id}}"), get(agent).delete(remove_agent))
        .layer(from_fn_with_state(core.clone(), gate));
    let queues = Router::new()
        .route(&format!("{sets}/{{id}}/acquirejobs"), post(queue::acquire))
        .route("/queues/{id}/messages", get(queue::poll))
        .route(
            "/queues/{id}/messages/{message}",
            delete(queue::acknowledge),
        );
    Router::new().nest("/tenants/{tenant}", service.merge(queues))
}

/// `POST /actions/runner-registration`: a registration token for a connection.
pub(crate) async fn register(
    State(core): State<Shared>,
    headers: HeaderMap,
    Json(asked): Json<Registration>,
) -> Response {
    let value = headers.get(header::AUTHORIZATION);
    let token = value
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("RemoteAuth "))
        .unwrap_or_default();
    let path = asked.url.strip_prefix(&core.url).unwrap_or_default();
    let mut state = core.state();
    let named = Scope::from_web_path(path).and_then(|scope| state.find_scope(&scope));
    let Some(scope) = named.filter(|_| asked.runner_event == "register") else {
        return super::reply::Failure::not_found().into_response();
    };
    if state.purpose(token) != Some(&Purpose::Register(scope.clone())) {
        return super::reply::Failure::unauthorized("the registration token is not valid")
            .into_response();
    }
    let url = format!("{}/tenants/{}", core.url, tenant(&scope));
    let life = core.config.scale_sets.token_lifetime;
    let (token, _) = state.issue(Purpose::Service(scope), life);
    Json(json!({ "url": url, "token": token })).into_response()
}

#[derive(Deserialize)]
pub(crate) struct Registration {
    url: String,
    runner_event: String,
}

fn tenant(scope: &Scope) -> String {
    scope.api_path().replace('/', ":")
}

/// Lets pass what has the tenant's token and names the version of the API.
async fn gate(
    State(core): State<Shared>,
    path: OfSet,
    mut request: Request,
    next: Next,
) -> Response {
    let version = "api-version=6.0-preview";
    let query = request.uri().query().unwrap_or_default();
    if !query.split('&').any(|pair| pair == version) {
        let message = "no api-version was supplied".to_owned();
        return Exception(
            StatusCode::BAD_REQUEST,
            "VssVersionNotSpecifiedException",
            message,
        )
        .into_response();
    }
    let token = super::bearer(request.headers()).unwrap_or_default();
    let scope = match core.state().purpose(token) {
        Some(Purpose::Service(scope)) => scope.clone(),
        _ => return unauthorized().into_response(),
    };
    if path.get("tenant") != Some(&tenant(&scope)) {
        return unauthorized().into_response();
    }
    request.extensions_mut().insert(scope);
    next.run(request).await
}

fn shape(state: &Model, set: &ScaleSet) -> Value {
    let label = |name: &String| json!({ "type": "System", "name": name });
    let group = usize::try_from(set.group_id).unwrap_or(1).saturating_sub(1);
    json!({
        "id": set.id,
        "name": set.name,
        "runnerGroupId": set.group_id,
        "runnerGroupName": state.groups().get(group),
        "labels": set.labels.iter().map(label).collect::<Vec<_>>(),
        "RunnerSetting": set.setting,
        "createdOn": set.created_on.to_string(),
        "statistics": state.statistics(set.id),
    })
}

fn list(value: &[Value]) -> Response {
    Json(json!({ "count": value.len(), "value": value })).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default)]
    runner_group_id: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    group_name: String,
    #[serde(default)]
    agent_name: String,
}

async fn find(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    Query(asked): Query<Named>,
) -> Answer {
    let state = core.state();
    let found = state.scale_set_named(&scope, asked.runner_group_id, &asked.name);
    Ok(list(
        &found
            .map(|set| shape(&state, set))
            .into_iter()
            .collect::<Vec<_>>(),
    ))
}

#[derive(Deserialize)]
struct Wanted {
    name: String,
    #[serde(rename = "runnerGroupId")]
    group_id: u64,
    labels: Vec<Label>,
    #[serde(rename = "RunnerSetting")]
    setting: Value,
}

#[derive(Deserialize)]
struct Label {
    #[serde(rename = "type")]
    kind: String,
    name: String,
}

impl Wanted {
    fn read(self, core: &Shared) -> Result<NewScaleSet, Exception> {
        let groups = core.state().groups().len();
        let known = (1..=groups).contains(&usize::try_from(self.group_id).unwrap_or(0));
        let odd = self.labels.is_empty() || self.labels.iter().any(|l| l.kind != "System");
        if !known || odd || self.name.is_empty() {
            let message = "the scale set is not valid".to_owned();
            return Err(Exception(
                StatusCode::BAD_REQUEST,
                "ArgumentException",
                message,
            ));
        }
        Ok(NewScaleSet {
            name: self.name,
            group_id: self.group_id,
            labels: self.labels.into_iter().map(|label| label.name).collect(),
            setting: self.setting,
        })
    }
}

async fn make(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    Json(wanted): Json<Wanted>,
) -> Answer {
    let new = wanted.read(&core)?;
    let made = core.change(|state| state.make_scale_set(scope.clone(), new));
    let id = made.map_err(|_| {
        let message = "a scale set of this name exists".to_owned();
        Exception(
            StatusCode::BAD_REQUEST,
            "RunnerScaleSetExistsException",
            message,
        )
    })?;
    show(&core, &scope, id)
}

fn show(core: &Shared, scope: &Scope, id: u64) -> Answer {
    let state = core.state();
    let set = state
        .scale_set(scope, id)
        .ok_or_else(|| gone("the scale set"))?;
    Ok(Json(shape(&state, set)).into_response())
}

type OfSet = Path<std::collections::HashMap<String, String>>;

/// A number of the path.
fn number(path: &OfSet, name: &str) -> Result<u64, Exception> {
    let text = path.get(name).and_then(|text| text.parse().ok());
    text.ok_or_else(|| gone("what the path names"))
}

async fn one(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
) -> Answer {
    show(&core, &scope, number(&path, "id")?)
}

async fn change(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
    Json(wanted): Json<Wanted>,
) -> Answer {
    let id = number(&path, "id")?;
    let new = wanted.read(&core)?;
    show(&core, &scope, id)?;
    core.change(|state| state.change_scale_set(id, new));
    show(&core, &scope, id)
}

async fn remove(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
) -> Answer {
    let id = number(&path, "id")?;
    show(&core, &scope, id)?;
    core.change(|state| state.drop_scale_set(id));
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Jit {
    name: String,
    work_folder: String,
}

async fn jit(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
    Json(asked): Json<Jit>,
) -> Answer {
    let id = number(&path, "id")?;
    show(&core, &scope, id)?;
    let made = core.change(|state| {
        state.register_in(id, &asked.name).map(|runner| {
            json!({
                "runner": agent_shape(runner),
                "encodedJITConfig": encode(&core, runner, &asked.work_folder),
            })
        })
    });
    Ok(Json(made.map_err(refuse)?).into_response())
}

async fn groups(State(core): State<Shared>, Query(asked): Query<Named>) -> Answer {
    let state = core.state();
    let groups = (1_u64..).zip(state.groups());
    let found = groups.filter(|(_, name)| name.eq_ignore_ascii_case(&asked.group_name));
    let shapes = found
        .map(|(id, name)| json!({ "id": id, "name": name, "size": 0, "isDefaultGroup": id == 1 }));
    Ok(list(&shapes.collect::<Vec<_>>()))
}

fn agent_shape(runner: &Runner) -> Value {
    json!({ "id": runner.id, "name": runner.name, "runnerScaleSetId": runner.scale_set })
}

async fn agent_named(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    Query(asked): Query<Named>,
) -> Answer {
    let state = core.state();
    let id = state.named(&scope, &asked.agent_name);
    let found = id.and_then(|id| state.runner(id)).map(agent_shape);
    Ok(list(&found.into_iter().collect::<Vec<_>>()))
}

async fn agent(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
) -> Answer {
    let id = number(&path, "id")?;
    let state = core.state();
    let found = state.runner(id).filter(|runner| runner.scope.is(&scope));
    let found = found.ok_or_else(|| refuse(Refusal::NotFound))?;
    Ok(Json(agent_shape(found)).into_response())
}

async fn remove_agent(
    State(core): State<Shared>,
    Extension(scope): Extension<Scope>,
    path: OfSet,
) -> Answer {
    let id = number(&path, "id")?;
    core.change(|state| state.delete_runner(&scope, id))
        .map_err(refuse)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
