//! What operators ask of a state folder, and of the manager that works with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use runner_manager_core::{Error, ErrorKind, Result, RunnerName};
use runner_manager_fleet::FlushMode;
use runner_manager_server::AdminClient;
use runner_manager_store::{Live, RunnerFilter, Store};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::print;
use crate::config::Config;
use crate::why;

/// Lists runners from the database, whether a manager runs or not.
pub(crate) async fn list_runners(
    config: &Path,
    pool: Option<String>,
    live_only: Live,
    json: bool,
) -> Result<()> {
    let filter = RunnerFilter { pool, live_only };
    show(&open(config).await?.runners(filter).await?, json)
}

/// Shows one runner with the steps of its life.
pub(crate) async fn show_runner(config: &Path, name: &str, json: bool) -> Result<()> {
    let name = parse(name)?;
    let found = open(config).await?.runner(&name).await?;
    let Some((runner, steps)) = found else {
        let message = "no such runner is stored; `runners list --all` shows those that are";
        return Err(Error::new(ErrorKind::NotFound, message).with_context("runner", name));
    };
    if json {
        return print(&json!({ "runner": runner, "steps": steps }), true);
    }
    show(&[runner], false)?;
    println!();
    show(&steps, false)
}

/// Lists what the flight recorder holds.
pub(crate) async fn list_failures(config: &Path, pool: Option<String>, json: bool) -> Result<()> {
    let mut failures = open(config).await?.failures(pool).await?;
    if !json {
        for failure in &mut failures {
            failure.reason = first_line(&failure.reason);
        }
    }
    let mut rows = json!(failures);
    // Both are for one failure alone.
    for row in rows.as_array_mut().into_iter().flatten() {
        if let Some(row) = row.as_object_mut() {
            row.remove("console");
            row.remove("steps");
        }
    }
    print(&rows, json)
}

fn first_line(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(120)
        .collect()
}

/// Shows one failure with all that was recorded.
pub(crate) async fn show_failure(config: &Path, id: u64, json: bool) -> Result<()> {
    let Some(failure) = open(config).await?.failure(id).await? else {
        let message = "no such failure is recorded; `failures list` shows those that are";
        return Err(Error::new(ErrorKind::NotFound, message).with_context("failure", id));
    };
    if json {
        return print(&json!(failure), true);
    }
    println!(
        "{} {} of pool {}: {}",
        failure.at, failure.runner, failure.pool, failure.class
    );
    println!("reason: {}", failure.reason);
    if let Some(probe) = &failure.probe {
        println!("health: {probe}");
    }
    println!();
    show(&failure.steps, false)?;
    println!(
        "\nconsole:\n{}",
        failure.console.as_deref().unwrap_or("(none)")
    );
    Ok(())
}

pub(crate) async fn delete_runner(config: &Path, name: &str, deadline: Duration) -> Result<()> {
    let name = parse(name)?;
    manager(config)?.delete_runner(&name, deadline).await
}

pub(crate) async fn flush(
    config: &Path,
    pool: Option<&str>,
    mode: FlushMode,
    deadline: Duration,
    json: bool,
) -> Result<()> {
    let removed = manager(config)?.flush(pool, mode, deadline).await?;
    if json {
        return print(&json!({ "removed": removed }), true);
    }
    for name in &removed {
        println!("{name}");
    }
    eprintln!("{} runners removed", removed.len());
    Ok(())
}

/// Lists the pools as the manager sees them; without a manager, what is configured and stored.
pub(crate) async fn list_pools(path: &Path, json: bool) -> Result<()> {
    let config = Config::read(path)?;
    match AdminClient::new(&config.manager.state_dir).pools().await {
        Ok(pools) => print(&pools, json),
        Err(error) if error.kind() == ErrorKind::Unreachable => {
            eprintln!("no manager runs; this is what is configured and stored");
            print(&stored_pools(&config).await?, json)
        }
        Err(error) => Err(error),
    }
}

async fn stored_pools(config: &Config) -> Result<Value> {
    let filter = RunnerFilter {
        pool: None,
        live_only: Live::Yes,
    };
    let runners = match Store::open_read_only(&config.manager.state_dir).await {
        Ok(store) => store.runners(filter).await?,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let pools = config.pools.iter().map(|pool| {
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        for runner in runners.iter().filter(|runner| runner.pool == pool.name) {
            *states.entry(runner.state.as_str()).or_default() += 1;
        }
        let mut row = pool.summary();
        row["runners"] = json!(states);
        row
    });
    Ok(pools.collect())
}

/// Lists the newest jobs from the database.
pub(crate) async fn list_jobs(config: &Path, limit: u32, json: bool) -> Result<()> {
    show(&open(config).await?.jobs(limit).await?, json)
}

/// Shows where the time of one job went.
pub(crate) async fn explain_job(config: &Path, id: u64, json: bool) -> Result<()> {
    let store = open(config).await?;
    let Some(job) = store.job(id).await? else {
        let message = "no such job is stored; `jobs list` shows those that are";
        return Err(Error::new(ErrorKind::NotFound, message).with_context("job", id));
    };
    let runner = match job.runner.as_deref().and_then(|name| name.parse().ok()) {
        Some(name) => store.runner(&name).await?,
        None => None,
    };
    let steps = runner.map(|(_, steps)| steps).unwrap_or_default();
    let failures = match &job.pool {
        Some(pool) => store.failures(Some(pool.clone())).await?,
        None => Vec::new(),
    };
    let ghosts = why::ghosts(&job, &failures);
    let stages = why::explain(&job, &steps, ghosts, jiff::Timestamp::now());
    if json {
        return print(&json!({ "job": job, "stages": stages }), true);
    }
    show(&[job], false)?;
    println!();
    show(&stages, false)
}

fn parse(name: &str) -> Result<RunnerName> {
    name.parse()
        .map_err(|e: runner_manager_core::InvalidValue| {
            Error::new(ErrorKind::InvalidConfig, e.to_string())
        })
}

fn manager(config: &Path) -> Result<AdminClient> {
    Ok(AdminClient::new(&Config::read(config)?.manager.state_dir))
}

async fn open(config: &Path) -> Result<Store> {
    Store::open_read_only(&Config::read(config)?.manager.state_dir).await
}

fn show<T: Serialize>(rows: &[T], json: bool) -> Result<()> {
    let rows = serde_json::to_value(rows)
        .map_err(|e| Error::new(ErrorKind::Unexpected, "cannot print JSON").with_source(e))?;
    print(&rows, json)
}
