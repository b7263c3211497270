//! Runners and the steps of their lives.

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, Result, RunnerMetrics, RunnerName};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::open::{Failure, Store, instant};
use crate::state::RunnerState;

/// A runner that is wanted.
#[derive(Debug, Clone)]
pub struct NewRunner {
    /// Its pool.
    pub pool: String,
    /// Its name.
    pub name: RunnerName,
    /// What it is made from; another text when the pool's backend section changes.
    pub revision: String,
    /// The time.
    pub now: Timestamp,
}

/// Whether runners that are gone count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// Only runners of which something may exist.
    Yes,
    /// All that are remembered.
    All,
}

/// Which runners to show.
#[derive(Debug, Clone)]
pub struct RunnerFilter {
    /// Of this pool only.
    pub pool: Option<String>,
    /// Whether those that are gone count.
    pub live_only: Live,
}

/// A runner as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunnerRow {
    /// Its name.
    pub name: RunnerName,
    /// Its pool.
    pub pool: String,
    /// How far it has come.
    pub state: RunnerState,
    /// GitHub's id of its registration.
    pub github_id: Option<u64>,
    /// The job that it took.
    pub job_id: Option<u64>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it entered its state.
    pub changed_at: Timestamp,
    /// Why it is in its state, where there is something to say.
    pub note: Option<String>,
    /// What it was made from.
    pub revision: String,
}

/// One step of a runner's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The state that it entered.
    pub state: RunnerState,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub note: Option<String>,
}

const COLUMNS: &str =
    "name, pool, state, github_id, job_id, created_at, changed_at, note, revision";

fn unreadable(column: usize, error: runner_manager_core::InvalidValue) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn row(row: &Row<'_>) -> rusqlite::Result<RunnerRow> {
    Ok(RunnerRow {
        name: row
            .get::<_, String>(0)?
            .parse()
            .map_err(|e| unreadable(0, e))?,
        pool: row.get(1)?,
        state: row
            .get::<_, String>(2)?
            .parse()
            .map_err(|e| unreadable(2, e))?,
        github_id: row.get::<_, Option<i64>>(3)?.map(i64::cast_unsigned),
        job_id: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
        created_at: instant(row.get(5)?),
        changed_at: instant(row.get(6)?),
        note: row.get(7)?,
        revision: row.get(8)?,
    })
}

fn find(db: &Connection, name: &str) -> rusqlite::Result<Option<RunnerRow>> {
    let sql = format!("SELECT {COLUMNS} FROM runners WHERE name = ?1");
    db.prepare_cached(&sql)?.query_row([name], row).optional()
}

fn unknown(name: &str) -> Failure {
    Error::new(ErrorKind::NotFound, "no such runner is stored")
        .with_context("runner", name)
        .into()
}

fn step(
    db: &Connection,
    name: &str,
    state: RunnerState,
    at: i64,
    note: Option<&str>,
) -> rusqlite::Result<usize> {
    let sql = "INSERT INTO runner_steps (runner, state, at, note) VALUES (?1, ?2, ?3, ?4)";
    db.prepare_cached(sql)?
        .execute(params![name, state.as_str(), at, note])
}

/// Moves a runner on, and answers the state that it was in.
fn enter(
    db: &Connection,
    name: &str,
    to: RunnerState,
    now: i64,
    note: Option<&str>,
) -> Result<RunnerState, Failure> {
    let from = find(db, name)?.ok_or_else(|| unknown(name))?.state;
    if from == to {
        return Ok(from);
    }
    if !from.may_become(to) {
        let message = format!("a runner that is {from} cannot become {to}");
        return Err(Error::new(ErrorKind::InvalidRequest, message)
            .with_context("runner", name)
            .into());
    }
    let sql =
        "UPDATE runners SET state = ?2, changed_at = ?3, note = coalesce(?4, note) WHERE name = ?1";
    db.prepare_cached(sql)?
        .execute(params![name, to.as_str(), now, note])?;
    step(db, name, to, now, note)?;
    Ok(from)
}

impl Store {
    /// Stores that a runner is wanted: [`RunnerState::Requested`].
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when the name was used before.
    pub async fn insert_runner(&self, runner: &NewRunner) -> Result<()> {
        let (name, pool) = (runner.name.to_string(), runner.pool.clone());
        let revision = runner.revision.clone();
        let now = runner.now.as_microsecond();
        self.work("store a runner", move |db| {
            if find(db, &name)?.is_some() {
                let message = "a runner of this name is stored already";
                return Err(Error::new(ErrorKind::AlreadyExists, message)
                    .with_context("runner", name)
                    .into());
            }
            let state = RunnerState::Requested;
            let sql = "INSERT INTO runners (name, pool, state, created_at, changed_at, revision) VALUES (?1, ?2, ?3, ?4, ?4, ?5)";
            db.prepare_cached(sql)?
                .execute(params![name, pool, state.as_str(), now, revision])?;
            step(db, &name, state, now, None)?;
            Ok(())
        })
        .await
    }

    /// Stores that a runner enters a state, and answers the one it was in. The same state again
    /// changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a step that is not of the state machine,
    /// [`ErrorKind::NotFound`] for an unknown runner.
    pub async fn advance(
        &self,
        name: &RunnerName,
        to: RunnerState,
        now: Timestamp,
        note: Option<&str>,
    ) -> Result<RunnerState> {
        let (name, note, now) = (
            name.to_string(),
            note.map(str::to_owned),
            now.as_microsecond(),
        );
        self.work("store a runner's state", move |db| {
            enter(db, &name, to, now, note.as_deref())
        })
        .await
    }

    /// Stores that a runner's instance is made: [`RunnerState::Booting`], with GitHub's id of its
    /// registration, where it has one already.
    ///
    /// # Errors
    /// Those of [`Store::advance`].
    pub async fn launched(&self, name: &RunnerName, id: Option<u64>, now: Timestamp) -> Result<()> {
        let (name, now) = (name.to_string(), now.as_microsecond());
        self.work("store a runner's launch", move |db| {
            enter(db, &name, RunnerState::Booting, now, None)?;
            if let Some(id) = id {
                let sql = "UPDATE runners SET github_id = ?2 WHERE name = ?1";
                db.prepare_cached(sql)?
                    .execute(params![name, id.cast_signed()])?;
            }
            Ok(())
        })
        .await
    }

    /// The runners, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn runners(&self, filter: RunnerFilter) -> Result<Vec<RunnerRow>> {
        self.work("list runners", move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM runners WHERE (?1 IS NULL OR pool = ?1) AND (?2 OR state != 'gone') ORDER BY created_at, name"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let all = filter.live_only == Live::All;
            let rows = statement.query_map(params![filter.pool, all], row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// One runner with its steps in order.
    ///
    /// # Errors
    /// When the database fails; an unknown name is `None`.
    pub async fn runner(&self, name: &RunnerName) -> Result<Option<(RunnerRow, Vec<Step>)>> {
        let name = name.to_string();
        self.work("read a runner", move |db| {
            let Some(found) = find(db, &name)? else {
                return Ok(None);
            };
            let sql = "SELECT state, at, note FROM runner_steps WHERE runner = ?1 ORDER BY rowid";
            let mut statement = db.prepare_cached(sql)?;
            let steps = statement.query_map([&name], |row| {
                Ok(Step {
                    state: row
                        .get::<_, String>(0)?
                        .parse()
                        .map_err(|e| unreadable(0, e))?,
                    at: instant(row.get(1)?),
                    note: row.get(2)?,
                })
            })?;
            Ok(Some((found, steps.collect::<rusqlite::Result<_>>()?)))
        })
        .await
    }

    /// Stores what a runner left. Metrics of a runner that is not stored are dropped: it was an
    /// orphan.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_metrics(&self, metrics: &RunnerMetrics) -> Result<()> {
        let name = metrics.runner_name.to_string();
        let text = serde_json::to_string(metrics).map_err(|e| {
            Error::new(ErrorKind::Unexpected, "cannot write metrics as JSON").with_source(e)
        })?;
        self.work("store metrics", move |db| {
            db.execute(
                "UPDATE runners SET metrics = ?2 WHERE name = ?1",
                params![name, text],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets runners that have been gone, jobs that have been completed, events, and webhooks
    /// that were taken before `older_than`; at most 1,000 of each in one call. The answer is how many rows went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn prune(&self, older_than: Timestamp) -> Result<usize> {
        let before = older_than.as_microsecond();
        self.work("forget what is old", move |db| {
            let runners = db.execute(
                "DELETE FROM runners WHERE name IN (SELECT name FROM runners WHERE state = 'gone' AND changed_at < ?1 LIMIT 1000)",
                [before],
            )?;
            let jobs = db.execute(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE status = 'completed' AND coalesce(completed_at, queued_at) < ?1 LIMIT 1000)",
                [before],
            )?;
            let deliveries = db.execute(
                "DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE at < ?1 LIMIT 1000)",
                [before],
            )?;
            let events = db.execute(
                "DELETE FROM events WHERE rowid IN (SELECT rowid FROM events WHERE at < ?1 LIMIT 1000)",
                [before],
            )?;
            Ok(runners + jobs + deliveries + events)
        })
        .await
    }
}
