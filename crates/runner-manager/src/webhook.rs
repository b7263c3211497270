//! Webhooks on GitHub's side: installing them, and trying them.

use std::path::Path;
use std::process::ExitCode;

use runner_manager_core::{Error, ErrorKind, GitHubPath, Result, Secret};
use runner_manager_github::{GitHub, HookChange, HookPlace, HookSpec};
use serde_json::{Value, json};

use crate::cli::print;
use crate::config::Config;

/// What the file says about webhooks.
struct Setup {
    github: GitHub,
    spec: HookSpec,
    scopes: Vec<GitHubPath>,
}

fn read(path: &Path) -> Result<Setup> {
    let config = Config::read(path)?;
    let Some(url) = config.webhook_url() else {
        let message = "set `url` in `[webhook]`: the address at which GitHub reaches this manager, ending in `/webhook`";
        return Err(Error::new(ErrorKind::InvalidConfig, message));
    };
    let secrets = config.webhook()?.map(|(_, secrets)| secrets);
    // The first is the one of now; a second is the one before.
    let secret: Option<Secret> = secrets.unwrap_or_default().into_iter().next();
    let secret = secret
        .ok_or_else(|| Error::new(ErrorKind::InvalidConfig, "`[webhook]` has no `secret_file`"))?;
    Ok(Setup {
        github: config.github()?,
        spec: HookSpec { url, secret },
        scopes: config.webhook_scopes()?,
    })
}

fn told(change: HookChange) -> &'static str {
    match change {
        HookChange::Made => "made",
        HookChange::Changed => "changed",
        HookChange::SecretOnly => "was right; the secret was set anew",
    }
}

/// The row of a webhook that failed.
fn failure(webhook: &str, error: &Error) -> Value {
    json!({ "webhook": webhook, "outcome": format!("failed: {error}") })
}

/// The first failure, where there is nothing else to show.
fn all_failed(rows: &[Value], failed: Vec<Error>) -> Result<()> {
    if failed.len() < rows.len() {
        return Ok(());
    }
    failed.into_iter().next().map_or(Ok(()), Err)
}

/// Makes the webhooks of the pools' scopes, or those of the GitHub Apps, what the file says.
pub(crate) async fn install(path: &Path, json: bool) -> Result<ExitCode> {
    let setup = read(path)?;
    let mut rows: Vec<Value> = Vec::new();
    let (mut good, mut failed) = (true, Vec::new());
    for app in 0..setup.github.apps() {
        let webhook = format!("GitHub App {}", app + 1);
        let (change, subscribed) = match setup.github.install_app_hook(app, &setup.spec).await {
            Ok(installed) => installed,
            Err(error) => {
                good = false;
                rows.push(failure(&webhook, &error));
                failed.push(error);
                continue;
            }
        };
        let advice = (!subscribed).then_some(
            "subscribe the App to the event `Workflow job` on its settings page; only there it can be done",
        );
        good &= subscribed;
        rows.push(json!({ "webhook": webhook, "url": setup.spec.url,
            "outcome": told(change), "advice": advice }));
    }
    if setup.github.apps() == 0 {
        for scope in &setup.scopes {
            let (place, change) = match setup.github.install_hook(scope, &setup.spec).await {
                Ok(installed) => installed,
                // One scope that fails does not keep the others without.
                Err(error) => {
                    good = false;
                    rows.push(failure(&scope.to_string(), &error));
                    failed.push(error);
                    continue;
                }
            };
            let id = match place {
                HookPlace::Hook { id, .. } => Some(id),
                HookPlace::App(_) => None,
            };
            rows.push(
                json!({ "webhook": scope.to_string(), "id": id, "url": setup.spec.url,
                "outcome": told(change) }),
            );
        }
    }
    all_failed(&rows, failed)?;
    print(&rows.into(), json)?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Has GitHub send a `ping` to every webhook that comes here.
pub(crate) async fn ping(path: &Path, json: bool) -> Result<ExitCode> {
    let setup = read(path)?;
    if setup.github.apps() > 0 {
        setup.github.ping_hook(&HookPlace::App(0)).await?;
    }
    let mut rows: Vec<Value> = Vec::new();
    let (mut good, mut failed) = (true, Vec::new());
    for scope in &setup.scopes {
        let found = match ping_scope(&setup, scope).await {
            Ok(found) => found,
            Err(error) => {
                good = false;
                rows.push(failure(&scope.to_string(), &error));
                failed.push(error);
                continue;
            }
        };
        good &= found.is_some();
        let outcome = match found {
            Some(_) => "GitHub sends a ping",
            None => "there is none to this address; `webhook install` makes it",
        };
        rows.push(json!({ "webhook": scope.to_string(), "id": found, "outcome": outcome }));
    }
    all_failed(&rows, failed)?;
    print(&rows.into(), json)?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Has GitHub send a `ping` to the webhook of a scope, and gives its id where there is one.
async fn ping_scope(setup: &Setup, scope: &GitHubPath) -> Result<Option<u64>> {
    let found = setup.github.find_hook(scope, &setup.spec.url).await?;
    if let Some(id) = found {
        let path = scope.clone();
        setup
            .github
            .ping_hook(&HookPlace::Hook { path, id })
            .await?;
    }
    Ok(found)
}
