//! Running steps in order, and the report about them.

use crate::failure::{Failure, Result};
use crate::installation::{Installation, Part};
use crate::step::Step;
use crate::{checks, conformance, table, tools};
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
    step: Step,
    outcome: Outcome,
    time: Duration,
}

/// What was run, how it ended and how long each step took.
#[derive(Debug)]
pub(crate) struct Report(Vec<Entry>);

/// Runs the steps in order, up to the first that fails; `without` names backends that the
/// conformance suite leaves out. While the first steps compile, mostly on one core, what the later
/// ones need is installed.
pub(crate) fn run(root: &Path, steps: &[Step], without: &[String]) -> Report {
    let mut installation = None;
    run_with(steps, |step| {
        match step {
            Step::Clippy => {
                // First what this step itself installs: two runs of apt do not meet.
                tools::for_all_features(root)?;
                let parts = parts(root, steps, without)?;
                installation = (!parts.is_empty()).then(|| Installation::of(parts));
            }
            Step::Fmt | Step::Features => {}
            // The others install things too, or need what was installed: this waits for it.
            _ => installation = None,
        }
        checks::run(root, step, without)
    })
}

/// What the steps need and is not there before.
fn parts(root: &Path, steps: &[Step], without: &[String]) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    if steps.contains(&Step::Conformance) {
        parts = conformance::installations(root, without)?;
    }
    if steps.contains(&Step::Deny) {
        let root = root.to_owned();
        parts.push(Box::new(move || checks::deny::provide(&root).map(drop)));
    }
    Ok(parts)
}

fn run_with(steps: &[Step], mut check: impl FnMut(Step) -> Result<()>) -> Report {
    let mut entries: Vec<Entry> = Vec::with_capacity(steps.len());
    let mut failed = false;
    for &step in steps {
        let start = Instant::now();
        let outcome = if failed {
            Outcome::NotRun
        } else {
            println!("\n== {} ==", step.name());
            match check(step) {
                Ok(()) => Outcome::Passed,
                Err(failure) => Outcome::Failed(failure),
            }
        };
        failed |= matches!(outcome, Outcome::Failed(_));
        let time = start.elapsed();
        entries.push(Entry {
            step,
            outcome,
            time,
        });
    }
    Report(entries)
}

impl Report {
    /// The closing table.
    pub(crate) fn table(&self) -> String {
        let mut rows: Vec<Vec<String>> = self.0.iter().map(Entry::row).collect();
        let total: Duration = self.0.iter().map(|entry| entry.time).sum();
        rows.push(vec!["total".to_owned(), String::new(), seconds(total)]);
        table::render(&["step", "result", "time"], &rows)
    }

    /// The failure of the step that failed, under its name.
    pub(crate) fn verdict(&self) -> Result<()> {
        for Entry { step, outcome, .. } in &self.0 {
            if let Outcome::Failed(failure) = outcome {
                let name = step.name();
                return Err(Failure::new(format!(
                    "step `{name}` failed: {failure}\nrun it alone with `cargo xtask test --only {name}`"
                )));
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
        vec![self.step.name().to_owned(), result.to_owned(), time]
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 3] = [Step::Fmt, Step::Clippy, Step::Test];

    #[test]
    fn the_first_failure_stops_the_run_and_is_named() {
        let mut ran = Vec::new();
        let report = run_with(&STEPS, |step| {
            ran.push(step);
            if step == Step::Clippy {
                return Err(Failure::new("two warnings"));
            }
            Ok(())
        });
        assert_eq!(ran, [Step::Fmt, Step::Clippy]);
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
    fn a_run_without_failure_passes() {
        let report = run_with(&STEPS, |_| Ok(()));
        assert_eq!(report.verdict(), Ok(()));
        assert!(report.table().contains("total"));
    }
}
