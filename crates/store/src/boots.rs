//! What an instance may ask of the manager while it lives: its secrets, once, and to be heard.

use std::fmt;

use jiff::Timestamp;
use runner_manager_core::{Result, RunnerName};
use rusqlite::{Connection, OptionalExtension, params};

use crate::open::Store;
use crate::state::RunnerState;

/// The SHA-256 of a secret that is compared and never shown.
pub type Digest = [u8; 32];

/// An instance that will claim its secrets.
#[derive(Clone)]
pub struct NewBoot {
    /// Its runner.
    pub name: RunnerName,
    /// Of the nonce.
    pub nonce: Digest,
    /// Of the token with which it reports its phases.
    pub token: Digest,
    /// The secrets, sealed with a key that only the nonce gives.
    pub sealed: Vec<u8>,
    /// When the nonce ends.
    pub deadline: Timestamp,
}

/// Why an instance was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No instance of this name was launched to claim or report anything.
    Unknown,
    /// The nonce or token is not its own.
    Forged,
    /// It was served before, or the phase is not after the last one.
    Replayed,
    /// The deadline has passed.
    Late,
    /// The runner is being removed, or is gone.
    Deleted,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "no such instance was launched",
            Self::Forged => "the secret is not its own",
            Self::Replayed => "it was used before",
            Self::Late => "it comes after the deadline",
            Self::Deleted => "the runner is being removed, or is gone",
        })
    }
}

struct Boot {
    nonce: Digest,
    token: Digest,
    sealed: Option<Vec<u8>>,
    deadline: i64,
    heard: i64,
    state: String,
}

fn find(db: &Connection, name: &str) -> rusqlite::Result<Option<Boot>> {
    let sql = "SELECT nonce, token, sealed, deadline, heard, state FROM boots
        JOIN runners ON runners.name = boots.runner WHERE runner = ?1";
    let mut statement = db.prepare_cached(sql)?;
    let boot = statement.query_row([name], |row| {
        Ok(Boot {
            nonce: row.get(0)?,
            token: row.get(1)?,
            sealed: row.get(2)?,
            deadline: row.get(3)?,
            heard: row.get(4)?,
            state: row.get(5)?,
        })
    });
    boot.optional()
}

fn is_over(boot: &Boot) -> bool {
    let state = boot.state.parse::<RunnerState>();
    state.is_ok_and(|state| state >= RunnerState::Deleting)
}

/// The sealed secrets, for whoever may claim them now.
fn claimable(
    db: &Connection,
    name: &str,
    nonce: Digest,
    now: Timestamp,
) -> rusqlite::Result<std::result::Result<Vec<u8>, Refusal>> {
    let Some(boot) = find(db, name)? else {
        return Ok(Err(Refusal::Unknown));
    };
    if boot.nonce != nonce {
        return Ok(Err(Refusal::Forged));
    }
    if is_over(&boot) {
        return Ok(Err(Refusal::Deleted));
    }
    let Some(sealed) = boot.sealed else {
        return Ok(Err(Refusal::Replayed));
    };
    if now.as_microsecond() > boot.deadline {
        return Ok(Err(Refusal::Late));
    }
    Ok(Ok(sealed))
}

impl Store {
    /// Stores what an instance will claim. A second launch of the runner replaces the first.
    ///
    /// # Errors
    /// When the runner is not stored, or the database fails.
    pub async fn insert_boot(&self, boot: NewBoot) -> Result<()> {
        self.work("store a claim", move |db| {
            let sql = "INSERT OR REPLACE INTO boots (runner, nonce, token, sealed, deadline) VALUES (?1, ?2, ?3, ?4, ?5)";
            let deadline = boot.deadline.as_microsecond();
            db.execute(sql, params![boot.name.to_string(), boot.nonce, boot.token, boot.sealed, deadline])?;
            Ok(())
        })
        .await
    }

    /// Whether [`claim`](Self::claim) would give out the sealed secrets. Changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn may_claim(
        &self,
        name: &RunnerName,
        nonce: Digest,
        now: Timestamp,
    ) -> Result<std::result::Result<(), Refusal>> {
        let name = name.to_string();
        self.work("look at a claim", move |db| {
            Ok(claimable(db, &name, nonce, now)?.map(drop))
        })
        .await
    }

    /// Gives out the sealed secrets, once: with the answer they are gone from here.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim(
        &self,
        name: &RunnerName,
        nonce: Digest,
        now: Timestamp,
    ) -> Result<std::result::Result<Vec<u8>, Refusal>> {
        let name = name.to_string();
        self.work("give out a claim", move |db| {
            let sealed = claimable(db, &name, nonce, now)?;
            if sealed.is_ok() {
                db.execute("UPDATE boots SET sealed = NULL WHERE runner = ?1", [&name])?;
            }
            Ok(sealed)
        })
        .await
    }

    /// Stores that an instance reported a phase, by its rank from 1 on, and answers the pool of
    /// its runner. Phases only go forward.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hear(
        &self,
        name: &RunnerName,
        token: Digest,
        rank: u8,
    ) -> Result<std::result::Result<String, Refusal>> {
        let name = name.to_string();
        self.work("store a phase", move |db| {
            let Some(boot) = find(db, &name)? else {
                return Ok(Err(Refusal::Unknown));
            };
            if boot.token != token {
                return Ok(Err(Refusal::Forged));
            }
            if is_over(&boot) {
                return Ok(Err(Refusal::Deleted));
            }
            // Before the claim nobody has the token.
            if boot.sealed.is_some() || i64::from(rank) <= boot.heard {
                return Ok(Err(Refusal::Replayed));
            }
            let sql = "UPDATE boots SET heard = ?2 WHERE runner = ?1";
            db.execute(sql, params![name, rank])?;
            let sql = "SELECT pool FROM runners WHERE name = ?1";
            Ok(Ok(db.query_row(sql, [&name], |row| row.get(0))?))
        })
        .await
    }
}
