//! The sources of demand that pools have of their own, beside the queue of their scope.

mod planner;
mod scale_set;

use std::sync::Arc;
use std::time::Duration;

use runner_manager_github::JobEvent;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::PoolConfig;
use crate::demand::Feed;
use crate::operation::Shared;

pub use planner::{PlannerCarrier, PlannerConfig, PressureStream};
pub use scale_set::ScaleSetConfig;

/// How long a source may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(10);

/// What tells a pool how many runners it shall hold.
#[derive(Debug, Clone, Default)]
pub enum DemandSource {
    /// The queued jobs of its scope that ask for its labels.
    #[default]
    Queue,
    /// The jobs that GitHub assigns to its runner scale set.
    ScaleSet(ScaleSetConfig),
    /// A planner's pressure stream.
    Planner(PlannerConfig),
}

impl DemandSource {
    /// What it is, in a word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::ScaleSet(_) => "scale set",
            Self::Planner(_) => "planner",
        }
    }
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
pub(crate) fn start(
    config: &PoolConfig,
    shared: &Arc<Shared>,
    feed: Arc<watch::Sender<Feed>>,
    events: mpsc::Sender<JobEvent>,
) -> Option<SourceHandle> {
    let stop = CancellationToken::new();
    let task = match &config.source {
        DemandSource::Queue => return None,
        DemandSource::ScaleSet(set) => {
            let listener = scale_set::Listener {
                pool: config.name.clone(),
                path: config.github_path.clone(),
                spec: config.scale_set()?,
                owner: set.owner.clone(),
                capacity: config.max,
                shared: shared.clone(),
                feed,
                events,
            };
            tokio::spawn(listener.listen(stop.clone()))
        }
        DemandSource::Planner(planner) => {
            let (name, planner) = (config.name.clone(), planner.clone());
            let (stop, shared) = (stop.clone(), shared.clone());
            tokio::spawn(async move {
                let work = planner::follow(name, planner, &shared.chance, feed);
                // A stream has nothing to say goodbye to.
                stop.run_until_cancelled(work).await;
            })
        }
    };
    Some(SourceHandle { stop, task })
}
