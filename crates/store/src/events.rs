//! Events of runners, as they were written down.

use jiff::Timestamp;
use runner_manager_core::{Result, RunnerName};
use rusqlite::{OptionalExtension, params};

use crate::open::Store;

/// Whether an event is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It was stored now.
    New,
    /// The runner has had one of this kind.
    Before,
}

impl Store {
    /// Stores an event. A runner has at most one of each kind; those of a pool are all kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_event(
        &self,
        runner: Option<&RunnerName>,
        kind: &'static str,
        at: Timestamp,
        line: &str,
    ) -> Result<Recorded> {
        let (runner, line) = (runner.map(ToString::to_string), line.to_owned());
        self.work("store an event", move |db| {
            let sql = "INSERT INTO events VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
            let rows = db.execute(sql, params![at.as_microsecond(), runner, kind, line])?;
            Ok(match rows {
                0 => Recorded::Before,
                _ => Recorded::New,
            })
        })
        .await
    }

    /// The newest events as lines of JSON, oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(&self, limit: u32) -> Result<Vec<String>> {
        self.work("list events", move |db| {
            let sql = "SELECT line FROM (SELECT rowid, line FROM events ORDER BY rowid DESC LIMIT ?1) ORDER BY rowid";
            let mut statement = db.prepare_cached(sql)?;
            let rows = statement.query_map([limit], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The job that a runner took, if that is known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn job_of(&self, runner: &RunnerName) -> Result<Option<u64>> {
        let runner = runner.to_string();
        self.work("find a runner's job", move |db| {
            let sql = "SELECT coalesce(
                (SELECT job_id FROM runners WHERE name = ?1),
                (SELECT id FROM jobs WHERE runner = ?1))";
            let id: Option<Option<i64>> =
                db.query_row(sql, [runner], |row| row.get(0)).optional()?;
            Ok(id.flatten().map(i64::cast_unsigned))
        })
        .await
    }
}
