//! Connections, one per instance, kept for the next command.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runner_manager_core::{CommandOutput, Error, ErrorKind, Result, Retry};
use tokio::sync::Semaphore;

use crate::config::SshConfig;
use crate::connect::{self, Connection, JumpKeys, Login};
use crate::keys::RunnerKeys;
use crate::run::{self, Failed};
use crate::terminal;

/// The instance to run a command on.
#[derive(Debug, Clone)]
pub struct Target {
    /// The cloud's own id of it: what a connection is kept under.
    pub id: String,
    /// Its address.
    pub address: IpAddr,
    /// Its keys.
    pub keys: Arc<RunnerKeys>,
}

/// The place of one instance's connection. The lock is held while it is made, so that an
/// instance is connected to once.
struct Slot {
    connection: tokio::sync::Mutex<Option<(IpAddr, Arc<Connection>)>>,
    used: AtomicU64,
}

/// The connections of one pool.
pub struct SshPool {
    config: SshConfig,
    jump: Option<JumpKeys>,
    jump_connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
    permits: Semaphore,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    uses: AtomicU64,
}

impl std::fmt::Debug for SshPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SshPool")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// Throws a connection away unless the command on it came to its end: what is left of a
/// command that was cut off goes with it.
struct Cut<'a> {
    pool: &'a SshPool,
    id: &'a str,
    slot: &'a Arc<Slot>,
    armed: bool,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.pool.discard(self.id, self.slot);
        }
    }
}

impl SshPool {
    /// Checks the configuration and reads the jump host's keys. Small and local.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], with the key.
    pub fn new(config: SshConfig) -> Result<Self> {
        config.validate()?;
        let jump = config.jump.as_ref().map(JumpKeys::read).transpose()?;
        Ok(Self {
            jump,
            jump_connection: tokio::sync::Mutex::new(None),
            permits: Semaphore::new(config.concurrency),
            slots: Mutex::default(),
            uses: AtomicU64::new(0),
            config,
        })
    }

    /// Runs a command line of the instance's shell, with empty input, over the connection that
    /// is there or a new one. `limit` is for the command alone; connecting has a deadline of its
    /// own.
    ///
    /// # Errors
    /// Those of the crate's description. Where the command may have run, the effect is
    /// [`runner_manager_core::Effect::Unknown`].
    pub async fn run(&self, target: &Target, line: &str, limit: Duration) -> Result<CommandOutput> {
        let permit = self.permits.acquire().await;
        let _permit = permit.map_err(|e| {
            Error::new(ErrorKind::Unexpected, "the SSH pool is closed").with_source(e)
        })?;
        let slot = self.slot(&target.id);
        let mut cut = Cut {
            pool: self,
            id: &target.id,
            slot: &slot,
            armed: true,
        };
        let (connection, reused) = self.connection(&slot, target).await?;
        let outcome = match within(limit, run::run(&connection, line)).await {
            // It was closed at the other end in the meantime.
            Err(Failed::Unsent(_)) if reused => {
                *slot.connection.lock().await = None;
                let (connection, _) = self.connection(&slot, target).await?;
                within(limit, run::run(&connection, line)).await
            }
            outcome => outcome,
        };
        let output = outcome.map_err(|e| e.into_error().with_context("host", target.address))?;
        cut.armed = false;
        Ok(output)
    }

    /// The program that opens a shell on an instance, with the same keys and the same detours.
    ///
    /// # Errors
    /// [`ErrorKind::Local`] when a key cannot be encoded.
    pub fn terminal(&self, target: &Target) -> Result<Vec<String>> {
        terminal::words(&self.config, target)
    }

    /// Closes the connection of an instance that is gone.
    pub fn forget(&self, id: &str) {
        self.slots().remove(id);
    }

    /// How many connections are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.slots().len()
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn discard(&self, id: &str, slot: &Arc<Slot>) {
        let mut slots = self.slots();
        if slots.get(id).is_some_and(|kept| Arc::ptr_eq(kept, slot)) {
            slots.remove(id);
        }
    }

    /// The slot of an instance. Past the bound the least recently used goes; a command that
    /// runs on it keeps its connection to its end.
    fn slot(&self, id: &str) -> Arc<Slot> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.slots();
        if !slots.contains_key(id) && slots.len() >= self.config.max_connections {
            let oldest = slots
                .iter()
                .min_by_key(|(_, slot)| slot.used.load(Ordering::Relaxed));
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                slots.remove(&oldest);
            }
        }
        let slot = slots.entry(id.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                connection: tokio::sync::Mutex::new(None),
                used: AtomicU64::new(now),
            })
        });
        slot.used.store(now, Ordering::Relaxed);
        Arc::clone(slot)
    }

    /// The connection of a slot, and whether it was there already.
    async fn connection(&self, slot: &Slot, target: &Target) -> Result<(Arc<Connection>, bool)> {
        let mut place = slot.connection.lock().await;
        if let Some((address, connection)) = place.as_ref()
            && *address == target.address
            && connection.is_open()
        {
            return Ok((Arc::clone(connection), true));
        }
        *place = None;
        let host = target.address.to_string();
        let login = Login {
            host: &host,
            port: self.config.port,
            user: &self.config.user,
            key: target.keys.client(),
            host_key: target.keys.host_public(),
        };
        let connection = Arc::new(self.dial(&login).await?);
        *place = Some((target.address, Arc::clone(&connection)));
        Ok((connection, false))
    }

    async fn dial(&self, login: &Login<'_>) -> Result<Connection> {
        if !self.config.proxy_command.is_empty() {
            return connect::by_command(&self.config, login).await;
        }
        match (&self.config.jump, &self.jump) {
            (Some(jump), Some(keys)) => {
                let mut place = self.jump_connection.lock().await;
                let open = place.as_ref().filter(|c| c.is_open()).map(Arc::clone);
                let over = if let Some(open) = open {
                    open
                } else {
                    let to_jump = Login {
                        host: &jump.host,
                        port: jump.port,
                        user: &jump.user,
                        key: Arc::clone(&keys.key),
                        host_key: &keys.host_key,
                    };
                    let made = connect::direct(&self.config, &to_jump).await;
                    let made = Arc::new(made.map_err(about_the_jump_host)?);
                    Arc::clone(place.insert(made))
                };
                drop(place);
                connect::through(&self.config, over, login).await
            }
            _ => connect::direct(&self.config, login).await,
        }
    }
}

/// A jump host that cannot be reached says nothing about the instances behind it.
fn about_the_jump_host(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Unreachable | ErrorKind::TimedOut => {
            Error::new(ErrorKind::Unexpected, "the jump host cannot be used")
                .with_retry(error.retry())
                .with_source(error)
        }
        _ => error.with_context("via", "jump host"),
    }
}

async fn within(
    limit: Duration,
    step: impl Future<Output = Result<CommandOutput, Failed>>,
) -> Result<CommandOutput, Failed> {
    match tokio::time::timeout(limit, step).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failed::Sent(
            Error::new(
                ErrorKind::TimedOut,
                "the command gave no answer before the deadline",
            )
            .with_retry(Retry::After(limit))
            .with_context("deadline", format!("{} s", limit.as_secs_f64())),
        )),
    }
}
