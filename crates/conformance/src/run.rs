//! Running one case.

use std::sync::Arc;
use std::time::Duration;

use crate::bench::flush;
use crate::{Bench, Case, Failure, Harness, Verdict};

/// How long one case may take, beside twice the harness's patience.
const DEADLINE: Duration = Duration::from_secs(300);

/// Runs one case on a prefix of its own, and proves at its end that nothing is left.
///
/// # Errors
/// What the case found wrong, what is left of it, that it took more than five minutes and twice
/// the harness's patience, or that the harness cannot bring it about.
pub async fn run_case(harness: Arc<dyn Harness>, case: Case) -> Verdict {
    crate::logs::watch();
    let bench = Bench::new(harness);
    let late = |_| Failure::new("the case did not end before its deadline");
    let deadline = DEADLINE + bench.harness.patience() * 2;
    let verdict = tokio::time::timeout(deadline, (case.run)(bench.clone())).await;
    bench.harness.mend(&bench.prefix).await;
    let tidied = tokio::time::timeout(deadline, tidy(&bench)).await;
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
