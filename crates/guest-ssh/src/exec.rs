//! [`Exec`] over SSH.

use std::sync::Arc;

use async_trait::async_trait;
use runner_manager_core::{Command, CommandOutput, Error, ErrorKind, Exec, Result};

use crate::pool::{SshPool, Target};

/// Runs commands on one instance, over the connection that its pool keeps.
#[derive(Debug, Clone)]
pub struct SshExec {
    pool: Arc<SshPool>,
    target: Target,
}

impl SshExec {
    /// The way into an instance.
    #[must_use]
    pub fn new(pool: Arc<SshPool>, target: Target) -> Self {
        Self { pool, target }
    }
}

#[async_trait]
impl Exec for SshExec {
    async fn exec(&self, command: Command) -> Result<CommandOutput> {
        // SSH takes one line, which the user's shell reads.
        let words = command.argv.iter().map(String::as_str);
        let line = shlex::try_join(words).map_err(|e| {
            Error::new(ErrorKind::InvalidRequest, "the command cannot be quoted").with_source(e)
        })?;
        self.pool.run(&self.target, &line, command.timeout).await
    }

    fn terminal(&self) -> Result<Vec<String>> {
        self.pool.terminal(&self.target)
    }
}
