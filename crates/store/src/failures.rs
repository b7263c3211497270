//! The flight recorder: what the last failed launches and boots left to look at.

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, Result, RunnerName};
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

use crate::Step;
use crate::open::{Store, instant};

/// How many failures are kept; the oldest go first.
const KEPT: i64 = 100;
/// The most bytes of each text that are kept: its end.
const MAX_TEXT: usize = 32 * 1024;

/// A failed launch or boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureRow {
    /// Its number.
    pub id: u64,
    /// When it was noticed.
    pub at: Timestamp,
    /// The pool.
    pub pool: String,
    /// The runner.
    pub runner: RunnerName,
    /// The class: the kind of a launch's error, `boot`, or `no_jobs`.
    pub class: String,
    /// What went wrong.
    pub reason: String,
    /// What the backend last said of its health.
    pub probe: Option<String>,
    /// The end of its console's text, without what may be a secret; in lists left out.
    pub console: Option<String>,
    /// The steps of its life until then; in lists left out.
    pub steps: Vec<Step>,
}

/// A failure to record. Its texts must hold no secret.
#[derive(Debug, Clone)]
pub struct NewFailure {
    /// When it was noticed.
    pub at: Timestamp,
    /// The pool.
    pub pool: String,
    /// The runner, whose steps are added.
    pub runner: RunnerName,
    /// The class of the failure.
    pub class: String,
    /// What went wrong.
    pub reason: String,
    /// What the backend last said of its health.
    pub probe: Option<String>,
    /// Its console's text, of which the last 32 KiB are kept.
    pub console: Option<String>,
}

const COLUMNS: &str = "id, at, pool, runner, class, reason, probe";

fn row(row: &Row<'_>) -> rusqlite::Result<FailureRow> {
    let name: String = row.get(3)?;
    let runner = name
        .parse()
        .map_err(|e: runner_manager_core::InvalidValue| {
            rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(e))
        })?;
    Ok(FailureRow {
        id: row.get::<_, i64>(0)?.cast_unsigned(),
        at: instant(row.get(1)?),
        pool: row.get(2)?,
        runner,
        class: row.get(4)?,
        reason: row.get(5)?,
        probe: row.get(6)?,
        console: None,
        steps: Vec::new(),
    })
}

/// The end of a text, at most so many bytes.
fn end(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let mut from = text.len() - MAX_TEXT;
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text.drain(..from);
    }
    text
}

impl Store {
    /// Records a failure, with the steps of its runner, and forgets the oldest beyond 100.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_failure(&self, failure: NewFailure) -> Result<()> {
        let steps = self.runner(&failure.runner).await?;
        let steps = steps.map(|(_, steps)| steps).unwrap_or_default();
        let steps = serde_json::to_string(&steps).map_err(|e| {
            Error::new(ErrorKind::Unexpected, "cannot write steps as JSON").with_source(e)
        })?;
        self.work("record a failure", move |db| {
            let sql =
                "INSERT INTO failures (at, pool, runner, class, reason, probe, console, steps)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            db.execute(
                sql,
                params![
                    failure.at.as_microsecond(),
                    failure.pool,
                    failure.runner.to_string(),
                    failure.class,
                    end(failure.reason),
                    failure.probe.map(end),
                    failure.console.map(end),
                    steps,
                ],
            )?;
            let sql = "DELETE FROM failures WHERE id <= (SELECT max(id) FROM failures) - ?1";
            db.execute(sql, [KEPT])?;
            Ok(())
        })
        .await
    }

    /// The recorded failures, newest first, without console and steps.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn failures(&self, pool: Option<String>) -> Result<Vec<FailureRow>> {
        self.work("list failures", move |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM failures WHERE ?1 IS NULL OR pool = ?1 ORDER BY id DESC"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let rows = statement.query_map([pool], row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// One failure with all that was recorded.
    ///
    /// # Errors
    /// When the database fails; an unknown number is `None`.
    pub async fn failure(&self, id: u64) -> Result<Option<FailureRow>> {
        self.work("read a failure", move |db| {
            let sql = format!("SELECT {COLUMNS}, console, steps FROM failures WHERE id = ?1");
            let whole = |found: &Row<'_>| {
                let steps: String = found.get(8)?;
                Ok(FailureRow {
                    console: found.get(7)?,
                    steps: serde_json::from_str(&steps).unwrap_or_default(),
                    ..row(found)?
                })
            };
            Ok(db.query_row(&sql, [id.cast_signed()], whole).optional()?)
        })
        .await
    }
}
