//! The suite as a program, like a test binary of libtest.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, FormatSetting, Trial};
use tokio::runtime::{Handle, Runtime};

use crate::report::{self, Record};
use crate::{Case, Failure, Harness, Outcome, Waivers, cases, junit, logs, run_case, zone};

/// The exit code when no case ran: a run that shows nothing is no success.
const NOTHING_RAN: u8 = 4;

/// Runs the cases that the command line asks for, as a test binary of libtest would, in a zone
/// far from UTC. `waivers` is the text of the backend's `waivers.toml`, and may be empty.
///
/// `CONFORMANCE_THREADS` in the environment says how many cases run at once where the command
/// line does not: more than there are cores, for a cloud that makes them wait.
///
/// `CONFORMANCE_CASES`, where it is set, names the cases to run, or beginnings of their names,
/// with commas between.
///
/// `CONFORMANCE_JUNIT` names a file for the outcomes in the form of `JUnit`; `CONFORMANCE_REPORT` one
/// for the backend's page, which is written when every case ran and none failed.
///
/// # Exit codes
/// 0 when all cases that ran hold; 1 for a waiver that is wrong, and when a secret was logged; 4
/// when no case ran; 101 when a case failed, or holds in spite of its waiver.
pub fn main(harness: &Arc<dyn Harness>, waivers: &str) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let threads = std::env::var("CONFORMANCE_THREADS").ok();
    arguments.test_threads = arguments.test_threads.or_else(|| threads?.parse().ok());
    let ran = zone::enter().and_then(|()| run(harness, waivers, &arguments));
    match ran {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("conformance {}: {problem}", harness.scheme());
            ExitCode::FAILURE
        }
    }
}

fn run(
    harness: &Arc<dyn Harness>,
    waivers: &str,
    arguments: &Arguments,
) -> Result<ExitCode, String> {
    let all = cases();
    let names: Vec<&str> = all.iter().map(|case| case.name).collect();
    let today = jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::now());
    let waivers = Arc::new(Waivers::parse(waivers, &names, today.date())?);
    let runtime = Runtime::new().map_err(|error| format!("cannot start the runtime: {error}"))?;
    let records = Arc::new(Mutex::new(Vec::new()));
    let trial = |&case: &Case| {
        let (harness, waivers) = (harness.clone(), waivers.clone());
        let (handle, records) = (runtime.handle().clone(), records.clone());
        Trial::test(case.name, move || {
            recorded(&records, case, || judge(&handle, harness, case, &waivers))
        })
    };
    let chosen = std::env::var("CONFORMANCE_CASES").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split(',').filter(|name| !name.is_empty()).collect();
    if let Some(odd) = chosen
        .iter()
        .find(|name| !names.iter().any(|n| n.starts_with(**name)))
    {
        return Err(format!("CONFORMANCE_CASES: no case begins with `{odd}`"));
    }
    let is_chosen =
        |case: &&Case| chosen.is_empty() || chosen.iter().any(|name| case.name.starts_with(name));
    let trials = all.iter().filter(is_chosen).map(trial).collect();
    let conclusion = libtest_mimic::run(arguments, trials);
    // A call that still hangs keeps nobody.
    runtime.shutdown_background();
    if arguments.list {
        return Ok(conclusion.exit_code());
    }
    let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
    records.sort_by_key(|record| record.name);
    close(harness.scheme(), &records, arguments)?;
    if records.is_empty() {
        eprintln!("conformance {}: no case ran", harness.scheme());
        return Ok(ExitCode::from(NOTHING_RAN));
    }
    if let Some(line) = logs::lines_with(crate::MARK)?.first() {
        return Err(format!("a secret was logged: {}", line.trim()));
    }
    let whole = records.len() == all.len() && !conclusion.has_failed();
    if let (true, Some(path)) = (whole, std::env::var_os("CONFORMANCE_REPORT")) {
        std::fs::write(&path, report::page(harness.scheme(), &records))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(conclusion.exit_code())
}

/// Runs a case, and takes down what became of it, even when it panics.
fn recorded(
    records: &Mutex<Vec<Record>>,
    case: Case,
    run: impl FnOnce() -> Result<Outcome, String>,
) -> Result<(), Failed> {
    let begun = Instant::now();
    let ran = catch_unwind(AssertUnwindSafe(run));
    let verdict = match &ran {
        Ok(verdict) => verdict.clone(),
        Err(_) => Err("the case or its harness panicked".to_owned()),
    };
    let mut all = records.lock().unwrap_or_else(PoisonError::into_inner);
    all.push(Record {
        name: case.name,
        time: begun.elapsed(),
        verdict,
    });
    drop(all);
    match ran {
        Ok(verdict) => verdict.map(|_| ()).map_err(Failed::from),
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs a case and lays the waivers over it.
fn judge(
    handle: &Handle,
    harness: Arc<dyn Harness>,
    case: Case,
    waivers: &Waivers,
) -> Result<Outcome, String> {
    let verdict = handle.block_on(run_case(harness, case));
    match (verdict, waivers.reason(case.name)) {
        (Err(Failure::Cannot(_)), Some(reason)) => Ok(Outcome::Waived(reason.to_owned())),
        (Ok(_), Some(_)) => Err("it holds: its waiver is not needed any more, remove it".into()),
        (verdict, _) => verdict.map_err(|failure| failure.to_string()),
    }
}

/// Prints the closing lines, and writes the report for machines.
fn close(scheme: &str, records: &[Record], arguments: &Arguments) -> Result<(), String> {
    let mut lines = report::waived(records);
    lines.push(report::summary(scheme, records));
    for line in lines {
        match arguments.format {
            // What machines read stays whole.
            Some(FormatSetting::Json) => eprintln!("{line}"),
            _ => println!("{line}"),
        }
    }
    let Some(path) = std::env::var_os("CONFORMANCE_JUNIT") else {
        return Ok(());
    };
    std::fs::write(&path, junit::report(scheme, records)?)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
