//! What the state folder holds, whether a manager runs or not.

use std::path::Path;

use runner_manager_core::{Error, ErrorKind, Result};
use runner_manager_store::{Live, RunnerFilter, Store};
use serde::Serialize;

use crate::cli::print;
use crate::config::Config;

pub(crate) async fn runners(config: &Path, all: bool, json: bool) -> Result<()> {
    let live_only = if all { Live::All } else { Live::Yes };
    let rows = open(config)
        .await?
        .runners(RunnerFilter {
            pool: None,
            live_only,
        })
        .await?;
    show(&rows, json)
}

pub(crate) async fn jobs(config: &Path, limit: u32, json: bool) -> Result<()> {
    show(&open(config).await?.jobs(limit).await?, json)
}

async fn open(config: &Path) -> Result<Store> {
    Store::open_read_only(&Config::read(config)?.manager.state_dir).await
}

fn show<T: Serialize>(rows: &[T], json: bool) -> Result<()> {
    let rows = serde_json::to_value(rows)
        .map_err(|e| Error::new(ErrorKind::Unexpected, "cannot print JSON").with_source(e))?;
    print(&rows, json)
}
