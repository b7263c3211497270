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

/// Events that came after others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsAfter {
    /// The place of the last of them, to go on from.
    pub place: i64,
    /// They, as lines of JSON.
    pub lines: Vec<String>,
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

    /// Events in the order in which they were stored, at most `limit`, from behind a place on; where
    /// none is given, from behind the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events_after(&self, place: Option<i64>, limit: u32) -> Result<EventsAfter> {
        self.work("read events", move |db| {
            let newest = db.query_row("SELECT coalesce(max(rowid), 0) FROM events", [], |row| {
                row.get(0)
            })?;
            // Places begin anew where all events have been forgotten.
            let place = place.map_or(newest, |place| if place > newest { 0 } else { place });
            let sql = "SELECT rowid, line FROM events WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
            let mut statement = db.prepare_cached(sql)?;
            let rows = statement.query_map((place, limit), |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows = rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
            Ok(EventsAfter {
                place: rows.last().map_or(place, |(place, _)| *place),
                lines: rows.into_iter().map(|(_, line)| line).collect(),
            })
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
