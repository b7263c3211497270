//! Running steps in order, and the report about them.

use crate::failure::{Failure, Result};
use crate::step::Step;
use crate::{checks, table};
use clap::ValueEnum;
use std::path::Path;
use std::time::{Duration, Instant};

/// How one step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed(Failure),
    /// An earlier step failed.
    NotRun,
}

#[derive(Debug)]
struct Entry {
    name: String,
    outcome: Outcome,
    time: Duration,
}

/// The steps that ran, how each ended and how long it took.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Entry>);

/// Runs the steps in order, up to the first that fails; `without` names backends that the
/// conformance suite leaves out.
pub(crate) fn run(root: &Path, steps: &[Step], without: &[String]) -> Report {
    let mut report = Report::default();
    for &step in steps {
        report.step(step.name(), || checks::run(root, step, without));
    }
    report
}

impl Report {
    /// Runs one more step, unless one before it failed.
    pub(crate) fn step(&mut self, name: &str, check: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        let outcome = if self.has_failed() {
            Outcome::NotRun
        } else {
            println!("\n== {name} ==");
            check().map_or_else(Outcome::Failed, |()| Outcome::Passed)
        };
        self.0.push(Entry {
            name: name.to_owned(),
            outcome,
            time: start.elapsed(),
        });
    }

    /// Whether a step failed.
    pub(crate) fn has_failed(&self) -> bool {
        let mut outcomes = self.0.iter().map(|entry| &entry.outcome);
        outcomes.any(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// The closing table.
    pub(crate) fn table(&self) -> String {
        let mut rows: Vec<Vec<String>> = self.0.iter().map(Entry::row).collect();
        let total: Duration = self.0.iter().map(|entry| entry.time).sum();
        rows.push(vec!["total".to_owned(), String::new(), seconds(total)]);
        table::render(&["step", "result", "time"], &rows)
    }

    /// The failure of the step that failed, under its name.
    pub(crate) fn verdict(&self) -> Result<()> {
        for Entry { name, outcome, .. } in &self.0 {
            if let Outcome::Failed(failure) = outcome {
                let mut message = format!("step `{name}` failed: {failure}");
                // Continuous integration has steps of its own beside those.
                if Step::from_str(name, false).is_ok() {
                    message += &format!("\nrun it alone with `cargo xtask test --only {name}`");
                }
                return Err(Failure::new(message));
            }
        }
        Ok(())
    }
}

impl Entry {
    fn row(&self) -> Vec<String> {
        let (result, time) = match self.outcome {
            Outcome::Passed => ("ok", seconds(self.time)),
            Outcome::Failed(_) => ("FAILED", seconds(self.time)),
            Outcome::NotRun => ("not run", "0.0 s".to_owned()),
        };
        vec![self.name.clone(), result.to_owned(), time]
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stops_the_run_and_is_named() {
        let mut report = Report::default();
        report.step("fmt", || Ok(()));
        report.step("clippy", || Err(Failure::new("two warnings")));
        report.step("test", || unreachable!("clippy failed"));
        let failure = report.verdict().expect_err("clippy failed").to_string();
        assert!(
            failure.starts_with("step `clippy` failed: two warnings"),
            "{failure}"
        );
        let table = report.table();
        for (name, result) in [("fmt", "ok"), ("clippy", "FAILED"), ("test", "not run")] {
            let line = table.lines().find(|line| line.starts_with(name));
            assert!(line.is_some_and(|line| line.contains(result)), "{table}");
        }
    }

    #[test]
    fn only_a_step_that_can_be_run_alone_is_told_to_be() {
        for (name, is_step) in [("clippy", true), ("build", false)] {
            let mut report = Report::default();
            report.step(name, || Err(Failure::new("no")));
            let failure = report.verdict().expect_err("it failed").to_string();
            assert_eq!(failure.contains("--only"), is_step, "{failure}");
        }
    }

    #[test]
    fn a_run_without_failure_passes() {
        let mut report = Report::default();
        report.step("fmt", || Ok(()));
        assert_eq!(report.verdict(), Ok(()));
        assert!(report.table().contains("total"));
    }
}
