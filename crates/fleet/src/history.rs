//! Forgets what is old, so that the database stays small.

use std::time::Duration;

use jiff::SignedDuration;
use runner_manager_core::Clock;
use runner_manager_store::Store;

/// How often old entries are looked for.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// Runs until its task is aborted.
pub(crate) async fn forget(store: Store, clock: std::sync::Arc<dyn Clock>, retention: Duration) {
    loop {
        let age = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
        // Before the beginning of time there is nothing to forget.
        if let Ok(before) = clock.now().checked_sub(age) {
            loop {
                match store.prune(before).await {
                    Ok(0) => break,
                    Ok(rows) => tracing::info!(rows, "old runners and jobs are forgotten"),
                    Err(error) => {
                        tracing::warn!(%error, "cannot forget old runners and jobs");
                        break;
                    }
                }
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
