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

/// Makes the webhooks of the pools' scopes, or those of the GitHub Apps, what the file says.
pub(crate) async fn install(path: &Path, json: bool) -> Result<ExitCode> {
    let setup = read(path)?;
    let mut rows: Vec<Value> = Vec::new();
    let mut good = true;
    for app in 0..setup.github.apps() {
        let (change, subscribed) = setup.github.install_app_hook(app, &setup.spec).await?;
        let advice = (!subscribed).then_some(
            "subscribe the App to the event `Workflow job` on its settings page; only there it can be done",
        );
        good &= subscribed;
        rows.push(
            json!({ "webhook": format!("GitHub App {}", app + 1), "url": setup.spec.url,
            "outcome": told(change), "advice": advice }),
        );
    }
    if setup.github.apps() == 0 {
        for scope in &setup.scopes {
            let (place, change) = setup.github.install_hook(scope, &setup.spec).await?;
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
    let mut good = true;
    for scope in &setup.scopes {
        let found = setup.github.find_hook(scope, &setup.spec.url).await?;
        let outcome = match found {
            Some(id) => {
                let path = scope.clone();
                setup
                    .github
                    .ping_hook(&HookPlace::Hook { path, id })
                    .await?;
                "GitHub sends a ping"
            }
            None => {
                good = false;
                "there is none to this address; `webhook install` makes it"
            }
        };
        rows.push(json!({ "webhook": scope.to_string(), "id": found, "outcome": outcome }));
    }
    print(&rows.into(), json)?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
