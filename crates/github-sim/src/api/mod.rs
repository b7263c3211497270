//! GitHub's REST API.

mod app;
mod gate;
mod hooks;
mod jwt;
mod meta;
mod pages;
pub(crate) mod reply;
mod runners;
mod runs;
mod service;
pub(crate) mod shapes;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

use crate::core::Shared;

pub(crate) use gate::token as bearer;
pub(crate) use pages::parameter;
pub(crate) use runners::{refuse, settings};
pub(crate) use service::refused as token_refused;

/// The API under `/api/v3`.
pub(crate) fn routes(core: &Shared) -> Router {
    let mut api = Router::new()
        .route("/rate_limit", get(meta::rate_limit))
        .route("/repos/{owner}/{repo}/actions/runs", get(runs::list))
        .route("/repos/{owner}/{repo}/actions/runs/{id}", get(runs::one))
        .route(
            "/repos/{owner}/{repo}/actions/runs/{id}/jobs",
            get(runs::jobs),
        )
        .route("/repos/{owner}/{repo}/actions/jobs/{id}", get(runs::job));
    for scope in ["/orgs/{org}", "/enterprises/{enterprise}"] {
        api = api.route(
            &format!("{scope}/actions/runner-groups"),
            get(runners::groups),
        );
    }
    let scopes = [
        "/orgs/{org}",
        "/repos/{owner}/{repo}",
        "/enterprises/{enterprise}",
    ];
    let mut by_app = Router::new()
        .route("/app", get(app::app))
        .route("/app/installations", get(app::installations))
        .route(
            "/app/installations/{id}/access_tokens",
            post(app::access_token),
        )
        .route(
            "/app/hook/config",
            get(hooks::app_config).patch(hooks::change_app_config),
        )
        .route("/app/hook/deliveries", get(hooks::app_deliveries))
        .route("/app/hook/deliveries/{id}", get(hooks::delivery))
        .route("/app/hook/deliveries/{id}/attempts", post(hooks::redeliver));
    for scope in &scopes[..2] {
        let hooks = format!("{scope}/hooks");
        let hook = format!("{hooks}/{{hook}}");
        api = api
            .route(&hooks, get(hooks::list).post(hooks::make))
            .route(
                &hook,
                get(hooks::one).patch(hooks::change).delete(hooks::delete),
            )
            .route(&format!("{hook}/pings"), post(hooks::ping))
            .route(&format!("{hook}/deliveries"), get(hooks::hook_deliveries))
            .route(&format!("{hook}/deliveries/{{id}}"), get(hooks::delivery))
            .route(
                &format!("{hook}/deliveries/{{id}}/attempts"),
                post(hooks::redeliver),
            );
    }
    for scope in scopes {
        let runners = format!("{scope}/actions/runners");
        api = api
            .route(&runners, get(runners::list))
            .route(
                &format!("{runners}/registration-token"),
                post(runners::registration_token),
            )
            .route(
                &format!("{runners}/remove-token"),
                post(runners::remove_token),
            )
            .route(
                &format!("{runners}/generate-jitconfig"),
                post(runners::jit_config),
            )
            .route(&format!("{runners}/downloads"), get(runners::downloads))
            .route(
                &format!("{runners}/{{id}}"),
                get(runners::one).delete(runners::delete),
            );
        by_app = by_app.route(&format!("{scope}/installation"), get(app::installation));
    }
    let api = api
        .fallback(reply::unknown)
        .layer(from_fn_with_state(core.clone(), gate::by_token));
    let by_app = by_app.layer(from_fn_with_state(core.clone(), gate::by_app));
    let open = Router::new()
        .route("/meta", get(meta::meta))
        .route("/actions/runner-registration", post(service::register));
    let all = open
        .merge(by_app)
        .merge(api)
        .layer(from_fn_with_state(core.clone(), gate::etag));
    Router::new()
        .nest("/api/v3", all)
        .merge(service::routes(core))
        .with_state(core.clone())
}
