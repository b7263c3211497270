//! Self-hosted runners.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, RawPathParams, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{Answer, Failure, created, ok};
use super::{pages, shapes};
use crate::core::{Core, Shared};
use crate::state::{NewRunner, Purpose, Refusal, Runner, Scope, check_request};

/// How long a registration or remove token is good.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);

/// The scope that the path names, known to exist.
pub(crate) struct InScope(pub(crate) Scope);

/// The `{id}` of the path.
pub(crate) struct Id(pub(crate) u64);

/// The `{hook}` of the path.
pub(crate) struct HookId(pub(crate) u64);

async fn param(parts: &mut Parts, core: &Shared, name: &str) -> Option<String> {
    let params = RawPathParams::from_request_parts(parts, core).await.ok()?;
    let mut pairs = params.iter();
    pairs.find_map(|(key, value)| (key == name).then(|| value.to_owned()))
}

impl FromRequestParts<Shared> for InScope {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Result<Self, Failure> {
        let org = param(parts, core, "org").await;
        let enterprise = param(parts, core, "enterprise").await;
        let owner = param(parts, core, "owner").await;
        let repo = param(parts, core, "repo").await;
        let asked = match (org, enterprise, owner, repo) {
            (Some(org), ..) => Scope::Org(org),
            (_, Some(enterprise), ..) => Scope::Enterprise(enterprise),
            (_, _, Some(owner), Some(repo)) => Scope::Repo(owner, repo),
            _ => return Err(Failure::not_found()),
        };
        let found = core.state().find_scope(&asked);
        found.map(Self).ok_or_else(Failure::not_found)
    }
}

impl FromRequestParts<Shared> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Result<Self, Failure> {
        let id = param(parts, core, "id").await;
        let id = id.and_then(|text| text.parse().ok());
        id.map(Self).ok_or_else(Failure::not_found)
    }
}

impl FromRequestParts<Shared> for HookId {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, core: &Shared) -> Result<Self, Failure> {
        let id = param(parts, core, "hook").await;
        let id = id.and_then(|text| text.parse().ok());
        id.map(Self).ok_or_else(Failure::not_found)
    }
}

/// The version of the runner program that `downloads` names.
const RUNNER_VERSION: &str = "2.330.0";

/// `GET …/actions/runners/downloads`: the newest runner program. Nothing is served there.
pub(crate) async fn downloads(State(core): State<Shared>, _: InScope) -> Answer {
    let program = |architecture: &str| {
        let file = format!("actions-runner-linux-{architecture}-{RUNNER_VERSION}.tar.gz");
        let (url, version) = (&core.url, RUNNER_VERSION);
        json!({
            "os": "linux",
            "architecture": architecture,
            "download_url": format!("{url}/actions/runner/releases/download/v{version}/{file}"),
            "filename": file,
            "sha256_checksum": "0".repeat(64),
        })
    };
    ok(json!(["x64", "arm64"].map(program)))
}

/// `POST …/registration-token`.
pub(crate) async fn registration_token(State(core): State<Shared>, scope: InScope) -> Answer {
    give(&core, Purpose::Register(scope.0))
}

/// `POST …/remove-token`.
pub(crate) async fn remove_token(State(core): State<Shared>, scope: InScope) -> Answer {
    give(&core, Purpose::Remove(scope.0))
}

fn give(core: &Core, purpose: Purpose) -> Answer {
    let (token, expires_at) = core.state().issue(purpose, TOKEN_LIFE);
    created(json!({ "token": token, "expires_at": shapes::time(expires_at) }))
}

#[derive(Deserialize)]
struct JitRequest {
    name: String,
    runner_group_id: u64,
    labels: Vec<String>,
    #[serde(default)]
    work_folder: Option<String>,
}

/// `POST …/generate-jitconfig`.
pub(crate) async fn jit_config(
    State(core): State<Shared>,
    InScope(scope): InScope,
    body: Bytes,
) -> Answer {
    let asked: JitRequest = serde_json::from_slice(&body)
        .map_err(|e| Failure::invalid(format!("Invalid request.\n\n{e}")))?;
    check_request(&asked.name, &asked.labels).map_err(Failure::invalid)?;
    let groups = core.state().groups().len();
    if !(1..=groups).contains(&usize::try_from(asked.runner_group_id).unwrap_or(0)) {
        return Err(Failure::not_found());
    }
    let new = NewRunner {
        scope,
        name: asked.name,
        labels: asked.labels,
        group_id: asked.runner_group_id,
        ephemeral: true,
        jit: true,
    };
    let work_folder = asked.work_folder.unwrap_or_else(|| "_work".into());
    let body = core.change(|state| {
        state.register(new).map(|runner| {
            let config = encode(&core, runner, &work_folder);
            json!({ "runner": shapes::runner(runner), "encoded_jit_config": config })
        })
    });
    body.map_err(refuse).and_then(created)
}

pub(crate) fn refuse(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::NotFound => Failure::not_found(),
        Refusal::NameTaken => Failure(
            StatusCode::CONFLICT,
            "Already exists - A runner with this name already exists.".into(),
        ),
        Refusal::Busy => Failure::invalid(
            "Bad request - Runner is currently running a job and cannot be deleted.",
        ),
        Refusal::Full => Failure::invalid("The runner group is full."),
    }
}

/// A JIT config in GitHub's form: base64 of a map from file names to base64.
pub(super) fn encode(core: &Core, runner: &Runner, work_folder: &str) -> String {
    let settings = settings(core, runner, work_folder);
    let files: serde_json::Map<String, Value> = [
        (".runner", settings),
        (".credentials", json!({ "scheme": "OAuth", "data": {} })),
        (".credentials_rsaparams", json!({ "secret": runner.secret })),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), json!(STANDARD.encode(text.to_string()))))
    .collect();
    STANDARD.encode(Value::Object(files).to_string())
}

/// The `.runner` file of a runner.
pub(crate) fn settings(core: &Core, runner: &Runner, work_folder: &str) -> Value {
    json!({
        "agentId": runner.id,
        "agentName": runner.name,
        "poolId": runner.group_id,
        "poolName": "Default",
        "ephemeral": runner.ephemeral,
        "serverUrl": core.url,
        "gitHubUrl": format!("{}/{}", core.url, runner.scope.web_path()),
        "workFolder": work_folder,
    })
}

/// `GET …/runners`.
pub(crate) async fn list(State(core): State<Shared>, scope: InScope, uri: Uri) -> Answer {
    let name = pages::parameter(&uri, "name");
    let wanted = |r: &&Runner| {
        let same = |name: &String| r.name.eq_ignore_ascii_case(name);
        name.as_ref().is_none_or(same)
    };
    let state = core.state();
    let items: Vec<&Runner> = state.runners_of(&scope.0).filter(wanted).collect();
    pages::wrapped(&core, &uri, "runners", &items, |runner| {
        shapes::runner(runner)
    })
}

/// `GET …/runners/{id}`.
pub(crate) async fn one(State(core): State<Shared>, scope: InScope, Id(id): Id) -> Answer {
    let state = core.state();
    let runner = state.runner(id).filter(|runner| runner.scope.is(&scope.0));
    ok(shapes::runner(runner.ok_or_else(Failure::not_found)?))
}

/// `DELETE …/runners/{id}`.
pub(crate) async fn delete(State(core): State<Shared>, scope: InScope, Id(id): Id) -> Answer {
    core.change(|state| state.delete_runner(&scope.0, id))
        .map_err(refuse)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET …/runner-groups`.
pub(crate) async fn groups(State(core): State<Shared>, scope: InScope, uri: Uri) -> Answer {
    let names = core.state().groups().to_vec();
    let base = format!("{}/{}", core.api_url(), scope.0.api_path());
    let items: Vec<(u64, &String)> = (1..).zip(&names).collect();
    pages::wrapped(&core, &uri, "runner_groups", &items, |(id, name)| {
        shapes::group(&base, *id, name)
    })
}
