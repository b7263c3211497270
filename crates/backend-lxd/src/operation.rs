//! Background operations: one request waits for the end of each, none is polled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::Method;
use runner_manager_core::{Effect, Error, ErrorKind, Result, Retry};
use serde_json::Value;

use crate::api::failed;
use crate::client::{Change, Client};
use crate::wire::Operation;

/// How much longer than the server this side waits for the answer to a wait.
const MARGIN: Duration = Duration::from_secs(5);

/// The end of a wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now() + limit)
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

impl Client {
    /// Makes a change and waits for its end.
    pub(crate) async fn run(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
        deadline: Deadline,
    ) -> Result<()> {
        match self.change(method, path, query, body).await? {
            Change::Done => Ok(()),
            Change::Begun(operation) => self.wait(&operation.id, deadline).await.map(drop),
        }
    }

    /// Waits for the end of an operation: the server answers once it has ended.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] at the deadline, while the operation goes on; what the operation
    /// failed with; [`ErrorKind::NotFound`] when the server has been restarted since.
    pub(crate) async fn wait(&self, id: &str, deadline: Deadline) -> Result<Operation> {
        // The server counts in whole seconds.
        let left = deadline.left();
        let seconds = left.as_secs().saturating_add(1).to_string();
        let path = ["operations", id, "wait"];
        let query = [("timeout", seconds.as_str())];
        let asked = match self.ask(&path, &query, left + MARGIN).await {
            // Incus says in words that an operation failed, or goes on when the wait ends, and
            // LXD by the operation itself.
            Err(error) if error.context("status") == Some("500") => {
                self.get(&path[..2], &[]).await.map_err(|_| error)
            }
            asked => asked,
        };
        let operation: Operation = asked.map_err(|e| e.with_effect(Effect::Unknown))?;
        match operation.status_code {
            200 => Ok(operation),
            100..=199 => Err(Error::new(
                ErrorKind::TimedOut,
                "the server's operation has not ended before the deadline",
            )
            .with_retry(Retry::After(Duration::from_secs(5)))
            .with_effect(Effect::Unknown)),
            _ => Err(failed(&operation)),
        }
    }

    /// Waits for all operations on an instance that are under way. Some of them may be those of
    /// an earlier manager; how they end is theirs.
    pub(crate) async fn settle(&self, instance: &str, deadline: Deadline) -> Result<()> {
        let query = [("recursion", "1")];
        let all: BTreeMap<String, Vec<Operation>> = self.get(&["operations"], &query).await?;
        let of_instance = |operation: &&Operation| {
            let touched = operation.resources.iter().flat_map(BTreeMap::values);
            // A command on the instance may go on for as long as the instance does.
            operation.status_code < 200
                && operation.class == "task"
                && touched.flatten().any(|path| names(path, instance))
        };
        for operation in all.values().flatten().filter(of_instance) {
            match self.wait(&operation.id, deadline).await {
                Err(error) if error.kind() == ErrorKind::TimedOut => return Err(error),
                Err(error) if error.kind() == ErrorKind::Unreachable => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a resource's path, such as `/1.0/instances/NAME?project=ci`, is that of an instance.
fn names(path: &str, instance: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    path.strip_prefix("/1.0/instances/") == Some(instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_told_apart_by_their_whole_name() {
        assert!(names("/1.0/instances/a-1", "a-1"));
        assert!(names("/1.0/instances/a-1?project=ci", "a-1"));
        assert!(!names("/1.0/instances/a-10", "a-1"));
        assert!(!names("/1.0/images/a-1", "a-1"));
    }
}
