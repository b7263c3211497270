//! Opening the database, and the one way to it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags};

use crate::commit::{Queue, Undone};

/// The layout of the database; grows with every change of it.
const VERSION: i64 = 5;

const SCHEMA: &str = "
CREATE TABLE runners (
    name TEXT PRIMARY KEY, pool TEXT NOT NULL, state TEXT NOT NULL, github_id INTEGER,
    job_id INTEGER, created_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, note TEXT,
    metrics TEXT
) STRICT;
CREATE INDEX runners_live ON runners (pool) WHERE state != 'gone';
CREATE TABLE runner_steps (
    runner TEXT NOT NULL REFERENCES runners (name) ON DELETE CASCADE, state TEXT NOT NULL,
    at INTEGER NOT NULL, note TEXT
) STRICT;
CREATE INDEX runner_steps_runner ON runner_steps (runner);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, repository TEXT NOT NULL, labels TEXT NOT NULL,
    pool TEXT, status TEXT NOT NULL, conclusion TEXT, runner TEXT, queued_at INTEGER NOT NULL,
    started_at INTEGER, completed_at INTEGER
) STRICT;
CREATE INDEX jobs_open ON jobs (id) WHERE status != 'completed';
";

/// What layout 2 adds: the deliveries of webhooks that were taken.
const DELIVERIES: &str = "
CREATE TABLE deliveries (id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_at ON deliveries (at);
";

/// What layout 3 adds: what instances may claim, and events.
const BOOTS_AND_EVENTS: &str = "
CREATE TABLE boots (
    runner TEXT PRIMARY KEY REFERENCES runners (name) ON DELETE CASCADE, nonce BLOB NOT NULL,
    token BLOB NOT NULL, sealed BLOB, deadline INTEGER NOT NULL, heard INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE events (
    at INTEGER NOT NULL, runner TEXT, event TEXT NOT NULL, line TEXT NOT NULL,
    UNIQUE (runner, event)
) STRICT;
CREATE INDEX events_at ON events (at);
";

/// What layout 4 adds: what each runner was made from, and the flight recorder.
const FAILURES: &str = "
ALTER TABLE runners ADD COLUMN revision TEXT NOT NULL DEFAULT '';
CREATE TABLE failures (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, pool TEXT NOT NULL,
    runner TEXT NOT NULL, class TEXT NOT NULL, reason TEXT NOT NULL, probe TEXT, console TEXT,
    steps TEXT NOT NULL
) STRICT;
";

/// What layout 5 adds: the open sessions of runner scale sets, one of each pool.
const QUEUE_SESSIONS: &str = "
CREATE TABLE queue_sessions (
    pool TEXT PRIMARY KEY, scale_set INTEGER NOT NULL, session TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The two sides of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It has not begun; an error keeps it from being done.
    Before,
    /// It is done and durable.
    After,
}

/// What is awaited on both sides of every piece of work of a store in memory: a simulation's way
/// to slow it down, to make it fail, and to end the manager between any two steps.
pub type Gate =
    Arc<dyn Fn(Moment) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// The database. Clones share one connection.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    connection: Mutex<Connection>,
    /// What is to be stored together.
    queue: Queue,
    path: PathBuf,
    /// Holds the lock of the state folder; let go by the kernel however the process ends.
    _lock: Option<File>,
    /// Of a store in memory, whose work is done where it is asked for.
    gate: Option<Gate>,
}

impl Store {
    /// Opens the database of a state folder for writing, and makes both where they are missing,
    /// readable by this user alone.
    ///
    /// # Errors
    /// [`ErrorKind::Local`] when another manager uses the folder, when the file is damaged or of
    /// a newer release, and for whatever the file system refuses. The file is left as it was.
    pub async fn open(state_dir: &Path) -> Result<Self> {
        let dir = state_dir.to_owned();
        blocking(move || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
                .map_err(|e| local("cannot make the state folder", &dir).with_source(e))?;
            let lock = lock(&dir.join("lock"))?;
            let path = dir.join("state.db");
            let made = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
            made.map_err(|e| local("cannot open the database", &path).with_source(e))?;
            let failed = |e: rusqlite::Error| {
                local("cannot use the database; restore it or move it away", &path).with_source(e)
            };
            let mut connection = Connection::open(&path).map_err(failed)?;
            prepare(&mut connection).map_err(failed)?.map_or(Ok(()), |newer| {
                let message = format!(
                    "the database has layout {newer}, and this release knows {VERSION}; use the newer release"
                );
                Err(local(&message, &path))
            })?;
            Ok(Self(Arc::new(Inner { connection: Mutex::new(connection), queue: Queue::default(), path, _lock: Some(lock), gate: None })))
        })
        .await
    }

    /// Opens the database for reading, beside a manager at work or without one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is none, [`ErrorKind::Local`] when it cannot be read.
    pub async fn open_read_only(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("state.db");
        blocking(move || {
            if !path.exists() {
                let message = "there is no database; has a manager run with this state folder?";
                return Err(
                    Error::new(ErrorKind::NotFound, message).with_context("file", path.display())
                );
            }
            let open = || {
                // Readers of a WAL take part in its shared memory, which needs a writable open.
                let connection =
                    Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                connection.busy_timeout(Duration::from_secs(5))?;
                connection.pragma_update(None, "query_only", true)?;
                Ok(connection)
            };
            let connection = open().map_err(|e: rusqlite::Error| {
                local("cannot read the database", &path).with_source(e)
            })?;
            Ok(Self(Arc::new(Inner {
                connection: Mutex::new(connection),
                queue: Queue::default(),
                path,
                _lock: None,
                gate: None,
            })))
        })
        .await
    }

    /// A database in memory, for simulations: it lives as long as its clones, and does its work
    /// on the caller's thread, so that the order of things depends on nothing else.
    ///
    /// # Errors
    /// When the database cannot be made.
    pub fn in_memory(gate: Gate) -> Result<Self> {
        let path = PathBuf::from(":memory:");
        let open = || {
            let mut connection = Connection::open_in_memory()?;
            prepare(&mut connection)?;
            Ok(connection)
        };
        let connection = open().map_err(|e: rusqlite::Error| {
            local("cannot make a database in memory", &path).with_source(e)
        })?;
        Ok(Self(Arc::new(Inner {
            connection: Mutex::new(connection),
            queue: Queue::default(),
            path,
            _lock: None,
            gate: Some(gate),
        })))
    }

    /// Runs a piece of work in one transaction, off the async threads, together with what else
    /// waits. Dropping the future does not stop it: it is done whole, or not at all.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let inner = self.0.clone();
        let Some(gate) = &self.0.gate else {
            return inner.transact_together(what, work).await;
        };
        gate(Moment::Before).await?;
        let answer = inner.transact(what, work)?;
        gate(Moment::After).await?;
        Ok(answer)
    }
}

/// The duty to do what waits. Given up with its thread, it gives up what waits, so that nobody
/// waits for ever.
struct Turn(Option<Arc<Inner>>);

impl Turn {
    fn take(mut self) {
        if let Some(inner) = self.0.take() {
            let tell = inner.queue.work_off(&mut inner.connection());
            // Who is told may close the store, and it is closed then.
            drop(inner);
            tell();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            inner.queue.give_up();
        }
    }
}

impl Inner {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn transact_together<T: Send + 'static>(
        self: Arc<Self>,
        what: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let (is_first, told) = self.queue.add(work);
        if is_first {
            let turn = Turn(Some(self.clone()));
            // Its outcomes come through the queue.
            drop(tokio::task::spawn_blocking(move || turn.take()));
        }
        match told.await {
            Ok(outcome) => outcome.map_err(|undone| match undone {
                Undone::Told(error) => error,
                Undone::Sqlite(e) => {
                    local(&format!("the database cannot {what}"), &self.path).with_source(e)
                }
            }),
            Err(e) => Err(
                Error::new(ErrorKind::Unexpected, "the database's thread failed").with_source(e),
            ),
        }
    }

    fn transact<T>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut connection = self.connection();
        let outcome = (|| {
            let transaction = connection.transaction()?;
            let answer = work(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        })();
        outcome.map_err(|failure| match failure {
            Failure::Told(error) => error,
            Failure::Sqlite(e) => {
                local(&format!("the database cannot {what}"), &self.path).with_source(e)
            }
        })
    }
}

/// Why a piece of work failed.
pub(crate) enum Failure {
    Sqlite(rusqlite::Error),
    Told(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|e| {
        Err(Error::new(ErrorKind::Unexpected, "the database's thread failed").with_source(e))
    })
}

fn local(message: &str, path: &Path) -> Error {
    Error::new(ErrorKind::Local, message).with_context("file", path.display())
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    let file = file.map_err(|e| local("cannot open the lock", path).with_source(e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(local(
            "another manager uses this state folder; stop it, or choose another",
            path,
        )),
        Err(TryLockError::Error(e)) => Err(local("cannot take the lock", path).with_source(e)),
    }
}

/// Makes or checks the layout; the answer is the version of a layout that is too new.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Option<i64>> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > VERSION {
        return Ok(Some(version));
    }
    if version < VERSION {
        let transaction = connection.transaction()?;
        if version < 1 {
            transaction.execute_batch(SCHEMA)?;
        }
        if version < 2 {
            transaction.execute_batch(DELIVERIES)?;
        }
        if version < 3 {
            transaction.execute_batch(BOOTS_AND_EVENTS)?;
        }
        if version < 4 {
            transaction.execute_batch(FAILURES)?;
        }
        transaction.execute_batch(QUEUE_SESSIONS)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(None)
}

/// Times are stored as microseconds of UNIX time.
pub(crate) fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::UNIX_EPOCH)
}
