//! Running the cases.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, FormatSetting, Trial};

use crate::bench::flush;
use crate::report::{self, Outcomes};
use crate::{Bench, Case, Failure, Harness, Verdict, cases};

/// How long one case may take.
const DEADLINE: Duration = Duration::from_secs(180);

/// Runs one case on a prefix of its own, and proves at its end that nothing is left.
///
/// # Errors
/// What the case found wrong, what is left of it, or that it took more than three minutes.
pub async fn run_case(harness: Arc<dyn Harness>, case: Case) -> Verdict {
    let bench = Bench::new(harness);
    let late = |_| Failure::new("the case did not end before its deadline");
    let verdict = tokio::time::timeout(DEADLINE, (case.run)(bench.clone())).await;
    bench.harness.mend(&bench.prefix).await;
    let tidied = tokio::time::timeout(DEADLINE, tidy(&bench)).await;
    let outcome = verdict.map_err(late)??;
    tidied.map_err(late)??;
    Ok(outcome)
}

/// Removes the runners that the case used.
async fn tidy(bench: &Bench) -> Result<(), Failure> {
    let manager = bench.manager().await?;
    flush(&manager, true).await;
    bench.cleaned(&manager).await
}

/// Runs the cases that the command line asks for, as a test binary of libtest would.
///
/// With `CONFORMANCE_REPORT` in the environment, the outcomes are written there as Markdown when
/// every case ran and none failed.
pub fn main(harness: &Arc<dyn Harness>) -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcomes = Arc::new(Mutex::new(Outcomes::new()));
    let all = cases();
    let trials = all.iter().map(|&case| {
        let (harness, outcomes) = (harness.clone(), outcomes.clone());
        let handle = runtime.handle().clone();
        Trial::test(case.name, move || {
            let verdict = handle.block_on(run_case(harness, case));
            let outcome = verdict.map_err(|failure| Failed::from(failure.to_string()))?;
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.insert(case.name, outcome);
            Ok(())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    if !arguments.list {
        let mut lines = report::waived(&outcomes);
        lines.push(report::summary(harness.scheme(), &outcomes));
        for line in lines {
            match arguments.format {
                // What machines read stays whole.
                Some(FormatSetting::Json) => eprintln!("{line}"),
                _ => println!("{line}"),
            }
        }
    }
    if let Some(path) = std::env::var_os("CONFORMANCE_REPORT")
        && outcomes.len() == all.len()
        && let Err(error) = std::fs::write(&path, report::page(harness.scheme(), &outcomes))
    {
        eprintln!("cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
