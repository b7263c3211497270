//! Jobs, as far as GitHub has told.

use jiff::Timestamp;
use runner_manager_core::Result;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use crate::open::{Store, instant};

/// How far a job has come. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Waits for a runner.
    Queued,
    /// Runs.
    InProgress,
    /// Ended.
    Completed,
}

impl JobStatus {
    /// The status as GitHub's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
        }
    }

    fn from_word(word: &str) -> Self {
        match word {
            "completed" => Self::Completed,
            "in_progress" => Self::InProgress,
            _ => Self::Queued,
        }
    }
}

/// A job as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobRow {
    /// GitHub's id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `owner/repo`.
    pub repository: String,
    /// The labels of `runs-on`.
    pub labels: Vec<String>,
    /// The pool that serves it.
    pub pool: Option<String>,
    /// How far it has come.
    pub status: JobStatus,
    /// How it ended, in GitHub's word.
    pub conclusion: Option<String>,
    /// The runner that took it.
    pub runner: Option<String>,
    /// When it was queued.
    pub queued_at: Timestamp,
    /// When a runner took it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

const SELECT: &str = "SELECT id, name, repository, labels, pool, status, conclusion, runner, queued_at, started_at, completed_at FROM jobs";

fn row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let labels: String = row.get(3)?;
    Ok(JobRow {
        id: row.get::<_, i64>(0)?.cast_unsigned(),
        name: row.get(1)?,
        repository: row.get(2)?,
        labels: serde_json::from_str(&labels).unwrap_or_default(),
        pool: row.get(4)?,
        status: JobStatus::from_word(&row.get::<_, String>(5)?),
        conclusion: row.get(6)?,
        runner: row.get(7)?,
        queued_at: instant(row.get(8)?),
        started_at: row.get::<_, Option<i64>>(9)?.map(instant),
        completed_at: row.get::<_, Option<i64>>(10)?.map(instant),
    })
}

fn upsert(db: &Connection, job: &JobRow) -> rusqlite::Result<()> {
    let sql = "INSERT INTO jobs VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
        ON CONFLICT (id) DO UPDATE SET
        pool = coalesce(pool, excluded.pool),
        status = CASE WHEN status = 'completed' OR excluded.status = 'queued' THEN status ELSE excluded.status END,
        conclusion = coalesce(conclusion, excluded.conclusion),
        runner = coalesce(runner, excluded.runner),
        started_at = coalesce(started_at, excluded.started_at),
        completed_at = coalesce(completed_at, excluded.completed_at)";
    let mut statement = db.prepare_cached(sql)?;
    statement.execute(params![
        job.id.cast_signed(),
        job.name,
        job.repository,
        serde_json::json!(job.labels).to_string(),
        job.pool,
        job.status.as_str(),
        job.conclusion,
        job.runner,
        job.queued_at.as_microsecond(),
        job.started_at.map(Timestamp::as_microsecond),
        job.completed_at.map(Timestamp::as_microsecond),
    ])?;
    if let Some(runner) = &job.runner {
        // Where it is one of another manager, there is no row.
        let sql = "UPDATE runners SET job_id = ?2 WHERE name = ?1";
        db.prepare_cached(sql)?
            .execute(params![runner, job.id.cast_signed()])?;
    }
    Ok(())
}

impl Store {
    /// Stores what is known of a job, and at its runner that it has it. News may come in any
    /// order: the status never goes back, and what is known is never overwritten with nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn record_job(&self, job: &JobRow) -> Result<()> {
        let job = job.clone();
        self.work("store a job", move |db| Ok(upsert(db, &job)?))
            .await
    }

    /// Stores what a webhook told of a job and of the runner that took it, and that this delivery
    /// was taken, as one step. The answer is how far the job has come now; `None` for a delivery
    /// that was taken before.
    ///
    /// # Errors
    /// When the database fails; the delivery then counts as not taken.
    pub async fn take_delivery(
        &self,
        delivery: &str,
        now: Timestamp,
        job: &JobRow,
    ) -> Result<Option<JobStatus>> {
        let (delivery, job) = (delivery.to_owned(), job.clone());
        self.work("store a webhook", move |db| {
            let sql = "INSERT INTO deliveries VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            let mut statement = db.prepare_cached(sql)?;
            if statement.execute(params![delivery, now.as_microsecond()])? == 0 {
                return Ok(None);
            }
            upsert(db, &job)?;
            let mut statement = db.prepare_cached("SELECT status FROM jobs WHERE id = ?1")?;
            let word: String = statement.query_row([job.id.cast_signed()], |row| row.get(0))?;
            Ok(Some(JobStatus::from_word(&word)))
        })
        .await
    }

    async fn select_jobs(&self, rest: &'static str, limit: u32) -> Result<Vec<JobRow>> {
        self.work("list jobs", move |db| {
            let mut statement = db.prepare_cached(&format!("{SELECT} {rest}"))?;
            let rows = statement.query_map([limit], row)?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// One job.
    ///
    /// # Errors
    /// When the database fails; an unknown id is `None`.
    pub async fn job(&self, id: u64) -> Result<Option<JobRow>> {
        self.work("read a job", move |db| {
            let mut statement = db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
            Ok(statement.query_row([id.cast_signed()], row).optional()?)
        })
        .await
    }

    /// The newest jobs first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs(&self, limit: u32) -> Result<Vec<JobRow>> {
        self.select_jobs("ORDER BY queued_at DESC, id DESC LIMIT ?1", limit)
            .await
    }

    /// The jobs that are not completed, oldest first; at most 10,000.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_jobs(&self) -> Result<Vec<JobRow>> {
        self.select_jobs(
            "WHERE status != 'completed' ORDER BY queued_at, id LIMIT ?1",
            10_000,
        )
        .await
    }
}
