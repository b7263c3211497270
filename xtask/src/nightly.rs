//! The third tier: whole suites and long runs. It takes hours.

use crate::failure::{Failure, Result};
use crate::{checks, conformance, mutations, process, simulation, table};
use std::path::Path;

/// A part: its name, and the check.
type Part = (&'static str, fn(&Path) -> Result<()>);

const PARTS: [Part; 6] = [
    ("whole suites of all peers", conformance::compare_all),
    ("mutations of the suite", conformance::mutations),
    ("mutations of the fleet", mutations::run),
    ("soak", simulation::soak),
    ("bootstrap on arm64", checks::bootstrap::test_arm64),
    ("demo", demo),
];

/// Runs all parts, those after a failure too. The last line counts them.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for (name, check) in PARTS {
        println!("\n== {name} ==");
        let outcome = check(root);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        rows.push(vec![name.to_owned(), word.to_owned()]);
        failures.extend(outcome.err().map(|failure| format!("{name}: {failure}")));
    }
    println!("\n{}", table::render(&["part", "result"], &rows));
    let failed = failures.len();
    let passed = PARTS.len() - failed;
    if failed > 0 {
        eprintln!("{}", failures.join("\n"));
    }
    println!("nightly: {passed} passed, {failed} failed");
    match failed {
        0 => Ok(()),
        _ => Err(Failure::new("some parts failed, named above")),
    }
}

/// Real runner processes, as a newcomer runs them.
fn demo(root: &Path) -> Result<()> {
    let mut demo = process::cargo(root);
    process::stream(demo.args(["run", "--release", "--", "demo", "--jobs", "200"]))
}
