//! The sources of demand that pools have of their own, beside the queue of their scope.

mod planner;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::PoolConfig;
use crate::demand::Feed;

pub use planner::PlannerConfig;

/// How long a source may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// What tells a pool how many runners it shall hold.
#[derive(Debug, Clone, Default)]
pub enum DemandSource {
    /// The queued jobs of its scope that ask for its labels.
    #[default]
    Queue,
    /// A planner's pressure stream.
    Planner(PlannerConfig),
}

/// A source at work. Dropping it stops it as a crash would.
pub(crate) struct SourceHandle {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for SourceHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SourceHandle {
    /// Lets the source say goodbye, and waits for that.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(GOODBYE, &mut self.task).await.is_err() {
            tracing::warn!("a source of demand did not close in time");
        }
    }
}

/// Starts the source of a pool, if it has one of its own.
pub(crate) fn start(config: &PoolConfig, feed: Arc<watch::Sender<Feed>>) -> Option<SourceHandle> {
    let stop = CancellationToken::new();
    let task = match &config.source {
        DemandSource::Queue => return None,
        DemandSource::Planner(planner) => {
            let work = planner::follow(config.name.clone(), planner.clone(), feed);
            let stop = stop.clone();
            tokio::spawn(async move {
                // A stream has nothing to say goodbye to.
                stop.run_until_cancelled(work).await;
            })
        }
    };
    Some(SourceHandle { stop, task })
}
