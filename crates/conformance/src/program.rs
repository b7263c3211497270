//! The suite as a program, like a test binary of libtest.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Conclusion, Failed, FormatSetting, Trial};
use tokio::runtime::{Handle, Runtime};

use crate::report::{self, Outcomes};
use crate::{Case, Failure, Harness, Outcome, Waivers, cases, run_case};

/// The exit code when no case ran: a run that shows nothing is no success.
const NOTHING_RAN: u8 = 4;

/// Runs the cases that the command line asks for, as a test binary of libtest would. `waivers`
/// is the text of the backend's `waivers.toml`, and may be empty.
///
/// `CONFORMANCE_THREADS` in the environment says how many cases run at once where the command
/// line does not: more than there are cores, for a cloud that makes them wait.
///
/// With `CONFORMANCE_REPORT` in the environment, the outcomes are written there as Markdown when
/// every case ran and none failed.
///
/// # Exit codes
/// 0 when all cases that ran hold; 1 for a wrong waiver, or one that nothing needs any more; 4
/// when no case ran; 101 when a case failed.
pub fn main(harness: &Arc<dyn Harness>, waivers: &str) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let threads = std::env::var("CONFORMANCE_THREADS").ok();
    arguments.test_threads = arguments.test_threads.or_else(|| threads?.parse().ok());
    match run(harness, waivers, &arguments) {
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
    let outcomes = Arc::new(Mutex::new(Outcomes::new()));
    let trial = |&case: &Case| {
        let (harness, waivers) = (harness.clone(), waivers.clone());
        let (handle, outcomes) = (runtime.handle().clone(), outcomes.clone());
        Trial::test(case.name, move || {
            let outcome = judge(&handle, harness, case, &waivers)?;
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.insert(case.name, outcome);
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(arguments, all.iter().map(trial).collect());
    if arguments.list {
        return Ok(conclusion.exit_code());
    }
    let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    close(
        harness.scheme(),
        &outcomes,
        arguments,
        &conclusion,
        all.len(),
    )
}

/// Runs a case and lays the waivers over it.
fn judge(
    handle: &Handle,
    harness: Arc<dyn Harness>,
    case: Case,
    waivers: &Waivers,
) -> Result<Outcome, Failed> {
    let verdict = handle.block_on(run_case(harness, case));
    match (verdict, waivers.reason(case.name)) {
        (Err(Failure::Cannot(_)), Some(reason)) => Ok(Outcome::Waived(reason.to_owned())),
        (Ok(_), Some(_)) => Err("it holds: its waiver is not needed any more, remove it".into()),
        (verdict, _) => verdict.map_err(|failure| failure.to_string().into()),
    }
}

/// Prints the closing lines, and writes the page.
fn close(
    scheme: &str,
    outcomes: &Outcomes,
    arguments: &Arguments,
    conclusion: &Conclusion,
    all: usize,
) -> Result<ExitCode, String> {
    let mut lines = report::waived(outcomes);
    lines.push(report::summary(scheme, outcomes));
    for line in lines {
        match arguments.format {
            // What machines read stays whole.
            Some(FormatSetting::Json) => eprintln!("{line}"),
            _ => println!("{line}"),
        }
    }
    if conclusion.num_passed + conclusion.num_failed == 0 {
        eprintln!("conformance {scheme}: no case ran");
        return Ok(ExitCode::from(NOTHING_RAN));
    }
    if let Some(path) = std::env::var_os("CONFORMANCE_REPORT")
        && outcomes.len() == all
    {
        std::fs::write(&path, report::page(scheme, outcomes))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(conclusion.exit_code())
}
