//! What follows when an operation has ended.

use runner_manager_core::{CloudRunnerInstance, Error, Result, RunnerName};
use runner_manager_store::RunnerState;
use tokio::task::{Id, JoinError};
use tokio::time::Instant;

use super::circuit::Side;
use super::{Hold, Instances, Pool, Removed, retry_pause};
use crate::operation::{Done, Undone};

impl Pool {
    pub(super) async fn settle(&mut self, joined: std::result::Result<(Id, Done), JoinError>) {
        match joined {
            Ok((id, done)) => {
                self.about.remove(&id);
                self.take_done(done);
            }
            Err(panic) => {
                tracing::error!(pool = self.context.pool.name, %panic, "an operation failed; its runner is read anew");
                if let Some(name) = self.about.remove(&panic.id()) {
                    self.reread(&name).await;
                } else {
                    self.listing = false;
                    self.sweeping = false;
                }
            }
        }
    }

    fn take_done(&mut self, done: Done) {
        match done {
            Done::Launched { name, github_id } => {
                self.launching -= 1;
                self.circuit.launched();
                self.counters.launched += 1;
                self.counters.last_error = None;
                if let Some(runner) = self.runners.get_mut(&name) {
                    runner.github_id = github_id;
                    runner.enter(RunnerState::Booting);
                }
            }
            Done::LaunchFailed {
                name,
                error,
                side,
                began,
                undone,
            } => {
                self.launching -= 1;
                self.counters.failed += 1;
                self.counters.crashed += 1;
                self.counters.last_error = Some(error.to_string());
                self.launch_failed(&error, side, began);
                match undone {
                    Undone::Gone => self.forget(&name),
                    Undone::KeptBusy => self.keep_busy(&name),
                    Undone::Later => self.try_later(&name, &error),
                }
            }
            Done::Removed { name, console } => {
                if let Some((class, text)) = console {
                    self.circuit.show_console(class, last_lines(&text));
                }
                self.forget(&name);
            }
            Done::KeptBusy { name } => self.keep_busy(&name),
            Done::RemovalFailed { name, error } => {
                self.counters.last_error = Some(error.to_string());
                self.try_later(&name, &error);
            }
            Done::Asked { name, found } => self.take_answer(name, found),
            Done::Listed { began, runners } => {
                self.listing = false;
                match runners {
                    Ok(runners) => {
                        let by_name = runners.into_iter().map(|r| (r.name.clone(), r)).collect();
                        self.instances = Some(Instances { began, by_name });
                        let now = self.context.shared.clock.now();
                        self.circuit.reached(Side::Backend, began, now);
                        self.counters.backend_error = None;
                    }
                    Err(error) => {
                        tracing::warn!(pool = self.context.pool.name, %error, "cannot list the runners of the backend");
                        self.counters.backend_error = Some(error.to_string());
                    }
                }
            }
            Done::Swept => self.sweeping = false,
        }
    }

    /// What the backend says of one runner that its list did not hold.
    fn take_answer(&mut self, name: RunnerName, found: Result<Option<CloudRunnerInstance>>) {
        let Some(runner) = self.runners.get_mut(&name) else {
            return;
        };
        runner.hold = Hold::Free;
        match found {
            Ok(Some(instance)) => {
                tracing::debug!(pool = self.context.pool.name, runner = %name, "the backend's list lacks a runner that is there");
                runner.failures = 0;
                if let Some(list) = &mut self.instances {
                    list.by_name.insert(name, instance);
                }
            }
            Ok(None) => {
                runner.failures = 0;
                runner.gone = true;
            }
            Err(error) => {
                tracing::warn!(pool = self.context.pool.name, runner = %name, %error, "cannot ask for a runner that the backend's list lacks");
                runner.failures += 1;
                let pause = retry_pause(&self.context.shared, &error, runner.failures);
                runner.hold = Hold::Until(Instant::now() + pause);
            }
        }
    }

    fn forget(&mut self, name: &RunnerName) {
        if let Some(runner) = self.runners.remove(name) {
            tracing::info!(pool = self.context.pool.name, runner = %name, "runner is gone");
            for waiting in runner.waiting {
                // Who asked may have gone.
                let _ = waiting.send(Removed::Gone);
            }
        }
    }

    fn keep_busy(&mut self, name: &RunnerName) {
        if let Some(runner) = self.runners.get_mut(name) {
            runner.enter(RunnerState::Busy);
            self.circuit.took_job();
            for waiting in runner.waiting.drain(..) {
                // Who asked may have gone.
                let _ = waiting.send(Removed::KeptBusy);
            }
        }
    }

    /// Leaves a removal for the next attempt.
    fn try_later(&mut self, name: &RunnerName, error: &Error) {
        let Some(runner) = self.runners.get_mut(name) else {
            return;
        };
        runner.enter(RunnerState::Deleting);
        runner.failures += 1;
        let pause = retry_pause(&self.context.shared, error, runner.failures);
        runner.hold = Hold::Until(Instant::now() + pause);
        for waiting in runner.waiting.drain(..) {
            // Who asked may have gone.
            let _ = waiting.send(Removed::Failed(error.to_string()));
        }
    }

    /// Takes a runner's state from the store, which is right whatever happened to the task.
    async fn reread(&mut self, name: &RunnerName) {
        self.launching = self.launching.min(self.about.len());
        match self.context.shared.store.runner(name).await {
            Ok(Some((row, _))) if row.state != RunnerState::Gone => {
                if let Some(runner) = self.runners.get_mut(name) {
                    runner.github_id = row.github_id;
                    runner.enter(row.state);
                }
            }
            Ok(_) => self.forget(name),
            Err(error) => {
                tracing::error!(pool = self.context.pool.name, runner = %name, %error, "cannot read a runner");
            }
        }
    }
}

/// The end of a console's text, for a table.
fn last_lines(text: &str) -> String {
    const LINES: usize = 5;
    const LONGEST: usize = 160;
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let short = |line: &&str| line.chars().take(LONGEST).collect::<String>();
    let from = lines.len().saturating_sub(LINES);
    lines[from..]
        .iter()
        .map(short)
        .collect::<Vec<_>>()
        .join("\n")
}
