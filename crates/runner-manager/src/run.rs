//! The manager at work, and the check before it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use runner_manager_core::{Budgets, Error, ErrorKind, Result, Support, SystemClock};
use runner_manager_fleet::{Fleet, PoolConfig};
use runner_manager_server::{AdminServer, InstanceServer, Redelivery, StatusServer, WebhookServer};
use runner_manager_store::Store;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::services::Callback;
use crate::watch::FileWatch;

/// How many files may be open at once, as far as the system lets this user: connections of others
/// are among them. No more, since runners on this machine inherit it, and some programs close all
/// that could be open.
const OPEN_FILES: u64 = 16_384;

fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit
        .maximum
        .map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if wanted < OPEN_FILES {
        tracing::warn!(
            most = wanted,
            "few files can be open at once, and many connections may use them up; allow {OPEN_FILES}"
        );
    }
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "no more files can be open at once");
    }
}

/// Runs until told to stop.
pub(crate) async fn run(path: &Path) -> Result<()> {
    raise_open_files();
    let config = Config::read(path)?;
    let github = config.github()?;
    let webhook = config.webhook()?;
    let budgets = Budgets::default();
    let pools = config.connect(&budgets).await?;
    let mut hangup = on(SignalKind::hangup())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut file = FileWatch::start(path)?;
    let store = Store::open(&config.manager.state_dir).await?;
    let clock = Arc::new(SystemClock);
    let fleet = Fleet::start(config.rhythm(), pools, store.clone(), github.clone(), clock).await?;
    let fleet = Arc::new(fleet);
    let operators = AdminServer::start(&config.manager.state_dir, fleet.clone()).await?;
    let webhooks = match webhook {
        Some((listen, secrets)) => {
            Some(WebhookServer::start(listen, secrets, fleet.clone()).await?)
        }
        None => None,
    };
    // Only once somebody listens.
    let redelivery = match &webhooks {
        Some(_) => Some(Redelivery::start(
            github,
            config.webhook_url(),
            config.webhook_scopes()?,
            config.redelivery_interval(),
        )),
        None => None,
    };
    let instances = match &config.callback {
        Some(section) => {
            let (listen, tls) = (section.listen, section.tls()?);
            Some(InstanceServer::start(listen, tls, fleet.clone()).await?)
        }
        None => None,
    };
    let status = match config.status() {
        Some((listen, flushing)) => {
            Some(StatusServer::start(listen, flushing, fleet.clone(), store).await?)
        }
        None => None,
    };
    let listening = webhooks.as_ref().map(|w| w.address().to_string());
    tracing::info!(
        pools = config.pools.len(),
        webhooks = listening,
        status = status.as_ref().map(|s| s.address().to_string()),
        "the manager is at work"
    );
    loop {
        let told = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => "SIGHUP",
            () = file.changed() => "the file has changed",
        };
        match reload(path, &fleet, &budgets).await {
            Ok(()) => tracing::info!(reason = told, "the pools were read anew"),
            Err(error) => {
                tracing::error!(reason = told, %error, "cannot read the pools anew; they stay as they are");
            }
        }
    }
    tracing::info!("no launches any more; runners stay at work");
    fleet.drain().await;
    drop((operators, webhooks, redelivery, instances, status));
    Ok(())
}

async fn reload(path: &Path, fleet: &Fleet, budgets: &Budgets) -> Result<()> {
    let pools = Config::read(path)?.connect(budgets).await?;
    fleet.reload(pools).await
}

fn on(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|e| Error::new(ErrorKind::Local, "cannot wait for signals").with_source(e))
}

/// A warning for a pool whose instances could claim their credential, and find it in their
/// user-data instead.
fn inline_credential(pool: &PoolConfig) -> Option<(bool, String, Option<String>)> {
    let claims = &pool.manager.capability().claim;
    if pool.services.callback.is_some() || matches!(claims, Support::Unsupported(_)) {
        return None;
    }
    let what = format!(
        "pool {}: the credential stands in user-data, where a job can read it",
        pool.name
    );
    let advice = "set `[callback]`, so that instances claim it once";
    Some((true, what, Some(advice.to_owned())))
}

/// Checks the file, then each backend, then what GitHub allows.
pub(crate) async fn check(path: &Path, json: bool) -> Result<ExitCode> {
    let config = Config::read(path)?;
    let mut findings = vec![(
        true,
        format!("the file is valid: {} pools", config.pools.len()),
        None,
    )];
    match config.connect(&Budgets::default()).await {
        Ok(pools) => {
            findings.push((true, "every backend can be used".into(), None));
            findings.extend(pools.iter().filter_map(inline_credential));
        }
        Err(error) => findings.push((false, error.to_string(), None)),
    }
    config.webhook()?;
    config.callback.as_ref().map(Callback::tls).transpose()?;
    let github = config.github()?;
    for pool in &config.pools {
        let checked = github.check(&pool.github_path()?).await;
        findings.extend(checked.into_iter().map(|f| (f.ok, f.what, f.advice)));
    }
    for pool in config.pools.iter().filter(|pool| pool.needs_jit()) {
        let found = github.check_jit(&pool.github_path()?).await;
        findings.extend(found.map(|f| (f.ok, f.what, f.advice)));
    }
    let mut repositories = BTreeSet::new();
    for pool in &config.pools {
        repositories.extend(pool.watched_repositories()?);
    }
    for (owner, repo) in repositories {
        let found = github.check_repository(&owner, &repo).await;
        findings.push((found.ok, found.what, found.advice));
    }
    let good = findings.iter().all(|(ok, ..)| *ok);
    let rows = findings
        .into_iter()
        .map(|(ok, what, advice)| serde_json::json!({ "ok": ok, "what": what, "advice": advice }));
    crate::cli::print(&rows.collect(), json)?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
