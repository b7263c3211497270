//! The planner: it tells how many runners a pool shall hold, some time after that changes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use runner_manager_core::{Error, ErrorKind, Result};
use runner_manager_fleet::{PlannerCarrier, PlannerConfig, PressureStream};
use tokio::time::timeout;

use crate::world::World;

/// How long the stream is silent at most.
const SILENCE: Duration = Duration::from_secs(60);

/// The planner of one pool.
#[derive(Clone)]
pub(crate) struct Planner {
    pub(crate) world: Arc<World>,
    pub(crate) pool: usize,
}

impl std::fmt::Debug for Planner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Planner")
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}

impl PlannerCarrier for Planner {
    fn open(&self, config: PlannerConfig) -> BoxFuture<'static, Result<PressureStream>> {
        let planner = self.clone();
        async move {
            planner.world.step().await;
            planner.world.lag(20..400).await;
            if planner.is_away() {
                let message = "the simulated planner is away";
                return Err(Error::new(ErrorKind::Unreachable, message));
            }
            let lines = stream::unfold(None, move |last| {
                let (planner, flavor) = (planner.clone(), config.flavor.clone());
                async move {
                    let pressure = planner.next(last).await?;
                    let line = format!("{{\"{flavor}\": {pressure}}}\n");
                    Some((Ok(line.into_bytes()), Some(pressure)))
                }
            });
            Ok(lines.boxed())
        }
        .boxed()
    }
}

impl Planner {
    fn is_away(&self) -> bool {
        let world = &self.world;
        world.strikes(&mut world.state(), |f| f.planner_away)
    }

    /// The pressure once it is another one, or after a while; none when the stream ends.
    async fn next(&self, last: Option<usize>) -> Option<usize> {
        let world = &self.world;
        // Made before the look, so that nothing comes in between.
        let news = world.news.notified();
        if last == Some(world.pressure(&world.state(), self.pool)) {
            // That nothing came is told, too.
            let _ = timeout(SILENCE, news).await;
        }
        world.lag(50..3_000).await;
        if self.is_away() {
            return None;
        }
        world.step().await;
        Some(world.tell_pressure(&mut world.state(), self.pool))
    }
}
