//! Work that is stored together: what waits while the disk is busy goes into the next
//! transaction as a whole, so that a burst costs a few waits for the disk and not one each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runner_manager_core::Error;
use rusqlite::{Connection, Transaction};
use tokio::sync::oneshot;

use crate::open::Failure;

/// Why a transaction did not come to its end, for all whose work was in it.
type Lost = Arc<rusqlite::Error>;

/// Tells the one who asked, once the transaction has ended.
type Tell = Box<dyn FnOnce(Result<(), Lost>) + Send>;

/// A piece of work; without a transaction it is not done.
type Piece = Box<dyn FnOnce(Option<&mut Transaction<'_>>) -> Tell + Send>;

/// The pieces that wait for their turn.
#[derive(Default)]
pub(crate) struct Queue(Mutex<Vec<Piece>>);

/// Why a piece of work was not done.
pub(crate) enum Undone {
    Sqlite(Lost),
    Told(Error),
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sqlite(error) => Self::Sqlite(Arc::new(error)),
            Failure::Told(error) => Self::Told(error),
        }
    }
}

impl Queue {
    /// Queues a piece of work, and answers whether it is the first: then somebody has to take
    /// the turn. The outcome comes when the work is durable, or was not done at all; none comes
    /// when the thread that does it fails.
    pub(crate) fn add<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> (bool, oneshot::Receiver<Result<T, Undone>>) {
        let (answer, told) = oneshot::channel();
        let piece = move |transaction: Option<&mut Transaction<'_>>| -> Tell {
            let outcome = transaction.map(|transaction| alone(transaction, work));
            Box::new(move |ended| {
                let outcome = match (outcome, ended) {
                    (Some(Err(failure)), _) => Err(failure.into()),
                    (_, Err(lost)) => Err(Undone::Sqlite(lost)),
                    (Some(Ok(done)), Ok(())) => Ok(done),
                    // What was not done is told an error.
                    (None, Ok(())) => return,
                };
                // Who asked may have gone.
                let _ = answer.send(outcome);
            })
        };
        let mut waiting = self.waiting();
        waiting.push(Box::new(piece));
        (waiting.len() == 1, told)
    }

    /// Does all that waits, in the order in which it came, as one transaction. The answer tells
    /// those who asked.
    pub(crate) fn work_off(&self, connection: &mut Connection) -> impl FnOnce() + use<> {
        let pieces = std::mem::take(&mut *self.waiting());
        let mut tells = Vec::with_capacity(pieces.len());
        let ended = together(connection, pieces, &mut tells).map_err(Arc::new);
        move || {
            for tell in tells {
                tell(ended.clone());
            }
        }
    }

    /// Gives up what waits: those who asked are told that the thread failed.
    pub(crate) fn give_up(&self) {
        let pieces = std::mem::take(&mut *self.waiting());
        drop(pieces);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn together(
    connection: &mut Connection,
    pieces: Vec<Piece>,
    tells: &mut Vec<Tell>,
) -> rusqlite::Result<()> {
    let mut pieces = pieces.into_iter();
    let ended = connection.transaction().and_then(|mut transaction| {
        for piece in &mut pieces {
            tells.push(piece(Some(&mut transaction)));
            // Of some errors, such as a full disk, SQLite undoes all that was done before, and
            // would store by itself what follows.
            if transaction.is_autocommit() {
                return Err(undone_by_another());
            }
        }
        transaction.commit()
    });
    tells.extend(pieces.map(|piece| piece(None)));
    ended
}

fn undone_by_another() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
    let message = "what was stored together with it failed".to_owned();
    rusqlite::Error::SqliteFailure(code, Some(message))
}

/// Does one piece of work so that its failure undoes nothing else.
fn alone<T>(
    transaction: &mut Transaction<'_>,
    work: impl FnOnce(&Connection) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let savepoint = transaction.savepoint()?;
    let answer = work(&savepoint)?;
    savepoint.commit()?;
    Ok(answer)
}
