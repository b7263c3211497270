//! All pools of one manager.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{Clock, Error, ErrorKind, Result, RunnerName};
use runner_manager_github::{GitHub, JobEvent};
use runner_manager_store::{Live, RunnerFilter, Store};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::board::{Board, Reader};
use crate::chance::Chance;
use crate::demand::Feed;
use crate::operation::{Shared, Tokens};
use crate::pool::{Command, Pool, Removed, Rooms, Which, Wiring};
use crate::queues::Queues;
use crate::route::Route;
use crate::scope::{ScopeView, ScopeWatcher};
use crate::source::{self, SourceHandle};
use crate::{DemandSource, FleetConfig, PoolConfig, PoolSnapshot};

/// How many commands may wait for one pool.
const COMMANDS: usize = 16;
/// How many events may wait for one scope's watcher. What does not fit is found by its next look.
const EVENTS: usize = 4_096;

/// Which runners a flush takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushMode {
    /// Those without a job.
    Idle,
    /// All of them.
    IdleOrBusy,
}

/// The pools, at work.
///
/// Dropping it stops all work at once, as a crash would: nothing is lost, and the next start
/// takes up what was left. [`Fleet::drain`] is the polite way.
pub struct Fleet {
    config: FleetConfig,
    shared: Arc<Shared>,
    routes: watch::Sender<Arc<Vec<Route>>>,
    rooms: Arc<Rooms>,
    running: Mutex<Running>,
    /// Forgets what is old.
    history: JoinHandle<()>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.history.abort();
    }
}

#[derive(Default)]
struct Running {
    pools: BTreeMap<String, PoolHandle>,
    scopes: BTreeMap<String, ScopeHandle>,
    is_draining: bool,
}

struct PoolHandle {
    config: Arc<PoolConfig>,
    /// Its own source of demand, if it has one, and where that tells.
    source: Option<SourceHandle>,
    feed: Arc<watch::Sender<Feed>>,
    commands: mpsc::Sender<Command>,
    snapshot: watch::Receiver<PoolSnapshot>,
    task: JoinHandle<()>,
    /// Whether it was told to end when its runners are gone.
    is_retired: bool,
}

struct ScopeHandle {
    events: mpsc::Sender<JobEvent>,
    views: Reader<ScopeView>,
    task: JoinHandle<()>,
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for ScopeHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl PoolHandle {
    /// Starts the source anew when the pool is configured anew.
    async fn change_source(
        &mut self,
        config: &PoolConfig,
        shared: &Arc<Shared>,
        events: mpsc::Sender<JobEvent>,
    ) {
        self.close_source().await;
        self.source = source::start(config, shared, self.feed.clone(), events);
    }

    async fn close_source(&mut self) {
        if let Some(source) = self.source.take() {
            source.close().await;
        }
    }
}

impl Fleet {
    /// Starts to work on the given pools. Runners of an earlier run are taken up.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(
        config: FleetConfig,
        pools: Vec<PoolConfig>,
        store: Store,
        github: GitHub,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let forget = crate::history::forget(store.clone(), clock.clone(), config.retention);
        let fleet = Self {
            history: tokio::spawn(forget),
            config,
            shared: Arc::new(Shared {
                github,
                store,
                clock,
                tokens: Tokens::default(),
                queues: Queues::default(),
                chance: Chance::new(config.seed),
            }),
            routes: watch::Sender::new(Arc::default()),
            rooms: Arc::new(Rooms::new(HashMap::new())),
            running: Mutex::default(),
        };
        fleet.reload(pools).await?;
        fleet.warn_of_strays().await?;
        Ok(fleet)
    }

    /// Runners of pools that are no longer configured are nobody's: a human must know.
    async fn warn_of_strays(&self) -> Result<()> {
        let filter = RunnerFilter {
            pool: None,
            live_only: Live::Yes,
        };
        let running = self.running.lock().await;
        let mut strays: HashMap<String, usize> = HashMap::new();
        for row in self.shared.store.runners(filter).await? {
            if !running.pools.contains_key(&row.pool) {
                *strays.entry(row.pool).or_default() += 1;
            }
        }
        for (pool, runners) in strays {
            tracing::warn!(
                pool,
                runners,
                "this pool has runners and is not configured; add it again, with max = 0, to remove them"
            );
        }
        Ok(())
    }

    /// Makes the pools what is given now. Runners stay: those of a changed pool are kept, those
    /// of a pool that is missing finish their jobs and are then removed.
    ///
    /// # Errors
    /// When the store cannot be read; the pools that were there before go on.
    pub async fn reload(&self, pools: Vec<PoolConfig>) -> Result<()> {
        let mut running = self.running.lock().await;
        running.pools.retain(|_, pool| !pool.task.is_finished());
        self.routes
            .send_replace(Arc::new(pools.iter().filter_map(route_to).collect()));
        let names: Vec<String> = pools.iter().map(|pool| pool.name.clone()).collect();
        for pool in pools {
            self.start_or_change(&mut running, pool).await?;
        }
        for (name, pool) in &mut running.pools {
            if !names.contains(name) {
                tracing::info!(pool = name, "pool has left the configuration");
                pool.close_source().await;
                pool.is_retired = true;
                // A pool that has ended is retired already.
                let _ = pool.commands.send(Command::Retire).await;
            }
        }
        Ok(())
    }

    async fn start_or_change(&self, running: &mut Running, config: PoolConfig) -> Result<()> {
        let config = Arc::new(config);
        let scope = config.github_path.api_path();
        let scope = running
            .scopes
            .entry(scope)
            .or_insert_with(|| self.watch(&config));
        if let Some(pool) = running.pools.get_mut(&config.name) {
            let command = Command::Reconfigure(config.clone());
            if pool.commands.send(command).await.is_ok() {
                let events = scope.events.clone();
                pool.change_source(&config, &self.shared, events).await;
                pool.config = config;
                pool.is_retired = false;
                return Ok(());
            }
        }
        let (commands, orders) = mpsc::channel(COMMANDS);
        let (publish, snapshot) = watch::channel(PoolSnapshot::default());
        let feed = Arc::new(watch::Sender::new(Feed::default()));
        let wiring = Wiring {
            shared: self.shared.clone(),
            view: scope.views.clone(),
            feed: feed.subscribe(),
            routes: self.routes.subscribe(),
            rooms: self.rooms.clone(),
            commands: orders,
            snapshot: publish,
        };
        let name = config.name.clone();
        let pool = Pool::load(config.clone(), self.config, wiring).await?;
        let task = tokio::spawn(pool.run());
        running.pools.insert(
            name,
            PoolHandle {
                config: config.clone(),
                source: source::start(&config, &self.shared, feed.clone(), scope.events.clone()),
                feed,
                commands,
                snapshot,
                task,
                is_retired: false,
            },
        );
        Ok(())
    }

    fn watch(&self, config: &PoolConfig) -> ScopeHandle {
        let publish = Board::new(ScopeView::default());
        let views = publish.subscribe();
        let (events, news) = mpsc::channel(EVENTS);
        let watcher = ScopeWatcher {
            path: config.github_path.clone(),
            github: self.shared.github.clone(),
            store: self.shared.store.clone(),
            poll_interval: self.config.poll_interval,
            routes: self.routes.subscribe(),
            views: publish,
            events: news,
        };
        let scope = config.github_path.api_path();
        self.shared.queues.add(scope, views.clone());
        ScopeHandle {
            events,
            views,
            task: tokio::spawn(watcher.run()),
        }
    }

    /// Begins no launch and no removal any more, waits for those that are under way, and stops.
    /// Runners stay as they are, at work or not; the next start takes them up. After the drain
    /// deadline what is still under way is cut off, which a start repairs as well.
    pub async fn drain(&self) {
        let mut running = {
            let mut running = self.running.lock().await;
            let drained = std::mem::take(&mut *running);
            running.is_draining = true;
            drained
        };
        let drained = running.pools.values().map(|pool| async {
            let (done, wait) = oneshot::channel();
            if pool.commands.send(Command::Drain(done)).await.is_ok() {
                // The pool drops its end only when it has ended.
                let _ = wait.await;
            }
        });
        let drained = futures::future::join_all(drained);
        if tokio::time::timeout(self.config.drain_deadline, drained)
            .await
            .is_err()
        {
            tracing::warn!("the drain deadline has passed; what is under way is cut off");
        }
        // No source is asked any more by a pool that could still launch.
        let sources = running.pools.values_mut().map(PoolHandle::close_source);
        futures::future::join_all(sources).await;
    }

    /// Removes a runner, busy or not, and waits until it is gone.
    ///
    /// # Errors
    /// `NotFound` for a name that no pool has; what the removal itself fails with, and then it
    /// is tried again in the background; `TimedOut` after `deadline`, and it goes on likewise.
    pub async fn delete_runner(&self, name: &RunnerName, deadline: Duration) -> Result<()> {
        let removed = self
            .remove(None, Which::One(name.clone()), deadline)
            .await?;
        if removed.is_empty() {
            let message = "no pool has a live runner of this name; `runners list` shows them";
            return Err(Error::new(ErrorKind::NotFound, message).with_context("runner", name));
        }
        Ok(())
    }

    /// Removes runners of one pool, or of all, and waits until they are gone. The answer names
    /// them. One that a job has reached in the meantime stays in [`FlushMode::Idle`].
    ///
    /// # Errors
    /// `NotFound` for a pool that does not exist; `Unreachable` while the manager stops; the first
    /// removal that failed, when the others have been tried; `TimedOut` after `deadline`, and the
    /// removals go on.
    pub async fn flush(
        &self,
        pool: Option<&str>,
        mode: FlushMode,
        deadline: Duration,
    ) -> Result<Vec<RunnerName>> {
        let which = match mode {
            FlushMode::Idle => Which::Idle,
            FlushMode::IdleOrBusy => Which::All,
        };
        self.remove(pool, which, deadline).await
    }

    async fn remove(
        &self,
        pool: Option<&str>,
        which: Which,
        deadline: Duration,
    ) -> Result<Vec<RunnerName>> {
        let pools: Vec<mpsc::Sender<Command>> = {
            let running = self.running.lock().await;
            if running.is_draining {
                let message = "the manager is stopping; ask the next one";
                return Err(Error::new(ErrorKind::Unreachable, message));
            }
            let chosen = running
                .pools
                .iter()
                .filter(|(name, _)| pool.is_none_or(|p| p == *name));
            chosen.map(|(_, handle)| handle.commands.clone()).collect()
        };
        if let (Some(pool), true) = (pool, pools.is_empty()) {
            let message = "there is no such pool; `pools list` shows them";
            return Err(Error::new(ErrorKind::NotFound, message).with_context("pool", pool));
        }
        let removals = pools.into_iter().map(|pool| ask(pool, which.clone()));
        let removals = futures::future::join_all(removals);
        let outcomes = tokio::time::timeout(deadline, removals)
            .await
            .map_err(|_| {
                Error::new(ErrorKind::TimedOut, "the removal goes on in the background")
                    .with_context("deadline", format!("{} s", deadline.as_secs()))
            })?;
        let mut gone = Vec::new();
        let mut failed = None;
        for (name, removed) in outcomes.into_iter().flatten() {
            match removed {
                Removed::Gone => gone.push(name),
                Removed::KeptBusy => {}
                Removed::Failed(reason) => {
                    failed.get_or_insert_with(|| {
                        let message =
                            format!("cannot remove a runner; it is tried again: {reason}");
                        Error::new(ErrorKind::Unexpected, message).with_context("runner", &name)
                    });
                }
            }
        }
        failed.map_or(Ok(gone), Err)
    }

    /// What routes jobs now.
    pub(crate) fn routes(&self) -> Arc<Vec<Route>> {
        self.routes.borrow().clone()
    }

    /// The store, and the time.
    pub(crate) fn stored(&self) -> (&Store, jiff::Timestamp) {
        (&self.shared.store, self.shared.clock.now())
    }

    /// The pool that a runner of this name belongs to.
    pub(crate) async fn pool_of(&self, name: &RunnerName) -> Option<Arc<PoolConfig>> {
        let running = self.running.lock().await;
        let mut pools = running.pools.values().map(|pool| &pool.config);
        pools.find(|pool| pool.prefix() == name.prefix()).cloned()
    }

    /// Sends a command to a pool. One that has ended needs none, and one that is flooded finds
    /// by its next look what it was to be told.
    pub(crate) async fn command(&self, pool: &str, command: Command) {
        let running = self.running.lock().await;
        let handle = running.pools.get(pool);
        if handle.is_some_and(|handle| handle.commands.try_send(command).is_err()) {
            tracing::warn!(
                pool,
                "too many commands at once; the next look finds what was missed"
            );
        }
    }

    /// Hands an event to the watchers of these scopes.
    pub(crate) async fn tell(&self, scopes: &[&str], event: &JobEvent) {
        let running = self.running.lock().await;
        for scope in scopes {
            if let Some(watcher) = running.scopes.get(*scope)
                && watcher.events.try_send(event.clone()).is_err()
            {
                tracing::warn!(
                    scope,
                    "too many events at once; the next look finds what was missed"
                );
            }
        }
    }

    /// Whether every pool and every watcher of a scope is at work. One that has ended without being
    /// told to shows what it showed last, and does nothing any more.
    pub async fn is_at_work(&self) -> bool {
        let running = self.running.lock().await;
        let mut pools = running.pools.values();
        let mut scopes = running.scopes.values();
        !running.is_draining
            && pools.all(|pool| pool.is_retired || !pool.task.is_finished())
            && scopes.all(|scope| !scope.task.is_finished())
    }

    /// What the pools show of themselves, by name.
    pub async fn snapshot(&self) -> Vec<PoolSnapshot> {
        let running = self.running.lock().await;
        let mut pools: Vec<PoolSnapshot> = running
            .pools
            .values()
            .map(|pool| pool.snapshot.borrow().clone())
            .collect();
        pools.sort_by(|a, b| a.pool.cmp(&b.pool));
        pools
    }
}

/// Asks one pool for removals and waits for all of them.
async fn ask(pool: mpsc::Sender<Command>, which: Which) -> Vec<(RunnerName, Removed)> {
    let (reply, begun) = oneshot::channel();
    if pool.send(Command::Remove(which, reply)).await.is_err() {
        return Vec::new();
    }
    let begun = begun.await.unwrap_or_default();
    let ended = begun.into_iter().map(|(name, wait)| async {
        let stopped = |_| Removed::Failed("the manager is stopping".into());
        let removed = wait.await.unwrap_or_else(stopped);
        (name, removed)
    });
    futures::future::join_all(ended).await
}

/// How queued jobs come to a pool. To a scale set GitHub assigns them itself.
fn route_to(pool: &PoolConfig) -> Option<Route> {
    if pool.scale_set().is_some() {
        return None;
    }
    let lower = |(owner, repo): (String, String)| format!("{owner}/{repo}").to_lowercase();
    Some(Route {
        pool: pool.name.clone(),
        scope: pool.github_path.api_path(),
        repositories: pool.watched_repositories().into_iter().map(lower).collect(),
        labels: pool.runner_config().labels,
        priority: pool.priority,
        counts: matches!(pool.source, DemandSource::Queue),
    })
}
