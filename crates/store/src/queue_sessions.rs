//! The open sessions of runner scale sets, so that a manager that was killed can end its own.

use runner_manager_core::Result;
use rusqlite::{OptionalExtension, params};

use crate::open::Store;

/// A session of the queue of a runner scale set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueSession {
    /// GitHub's id of the scale set.
    pub scale_set: u64,
    /// GitHub's id of the session. No secret: its token is another.
    pub id: String,
}

impl Store {
    /// Stores the session that a pool has opened, in place of an earlier one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn opened_session(&self, pool: &str, session: QueueSession) -> Result<()> {
        let pool = pool.to_owned();
        self.work("store the session of a scale set", move |db| {
            let sql = "INSERT OR REPLACE INTO queue_sessions VALUES (?1, ?2, ?3)";
            let set = session.scale_set.cast_signed();
            db.execute(sql, params![pool, set, session.id])?;
            Ok(())
        })
        .await
    }

    /// The session that a pool opened and did not close.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_session(&self, pool: &str) -> Result<Option<QueueSession>> {
        let pool = pool.to_owned();
        self.work("read the session of a scale set", move |db| {
            let sql = "SELECT scale_set, session FROM queue_sessions WHERE pool = ?1";
            let session = |row: &rusqlite::Row<'_>| {
                Ok(QueueSession {
                    scale_set: row.get::<_, i64>(0)?.cast_unsigned(),
                    id: row.get(1)?,
                })
            };
            Ok(db.query_row(sql, [pool], session).optional()?)
        })
        .await
    }

    /// Forgets the session of a pool, which is closed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn closed_session(&self, pool: &str) -> Result<()> {
        let pool = pool.to_owned();
        self.work("forget the session of a scale set", move |db| {
            db.execute("DELETE FROM queue_sessions WHERE pool = ?1", [pool])?;
            Ok(())
        })
        .await
    }
}
