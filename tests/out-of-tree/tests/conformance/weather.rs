//! Bad weather between the backend and its shelf, as a proxy in front of a real cloud makes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_conformance::{Cannot, Did, Fault};
use runner_manager_core::{
    Budget, Capability, Cloud, CloudInstance, Error, ErrorKind, Guest, GuestFile, GuestProbe,
    LaunchSpec, Leftover, NamePrefix, Result, Retry, RunnerName, StopMode, StopOutcome,
};
use shelf_backend::ShelfCloud;

/// The faults and the counts of one prefix.
#[derive(Default)]
pub(crate) struct Sky {
    faults: Vec<Fault>,
    stale: Vec<CloudInstance>,
    pub(crate) requests: usize,
    pub(crate) lists: usize,
}

/// The weather over all prefixes. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Weather(Arc<Mutex<BTreeMap<NamePrefix, Sky>>>);

impl Weather {
    fn all(&self) -> MutexGuard<'_, BTreeMap<NamePrefix, Sky>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn at<T>(&self, prefix: &NamePrefix, act: impl FnOnce(&mut Sky) -> T) -> T {
        act(self.all().entry(prefix.clone()).or_default())
    }

    /// Plants a fault; `now` is what lists show just now.
    pub(crate) fn plant(&self, prefix: &NamePrefix, fault: Fault, now: Vec<CloudInstance>) -> Did {
        if matches!(fault, Fault::LaunchMidway | Fault::TerminateMidway) {
            return Err(Cannot(
                "an instance is one item: nothing is made or removed by half",
            ));
        }
        self.at(prefix, |sky| {
            sky.stale = now;
            sky.faults.push(fault);
        });
        Ok(())
    }

    pub(crate) fn clear(&self, prefix: &NamePrefix) {
        self.at(prefix, |sky| sky.faults.clear());
    }

    /// Whether a fault stands.
    fn has(&self, prefix: &NamePrefix, fault: Fault) -> bool {
        self.at(prefix, |sky| sky.faults.contains(&fault))
    }

    /// Whether a fault strikes, once.
    fn strikes(&self, prefix: &NamePrefix, fault: Fault) -> bool {
        self.at(prefix, |sky| {
            let at = sky.faults.iter().position(|planted| *planted == fault);
            at.map(|at| sky.faults.remove(at)).is_some()
        })
    }

    /// One request on its way.
    async fn pass(&self, prefix: &NamePrefix) -> Result<()> {
        tokio::task::yield_now().await;
        self.at(prefix, |sky| sky.requests += 1);
        if self.has(prefix, Fault::Hang) {
            std::future::pending::<()>().await;
        }
        if self.has(prefix, Fault::Throttle) {
            let error = Error::new(ErrorKind::RateLimited, "too many requests");
            return Err(error.with_retry(Retry::After(Duration::from_millis(20))));
        }
        if self.has(prefix, Fault::Down) {
            return Err(Error::new(ErrorKind::Unreachable, "the cloud is down"));
        }
        Ok(())
    }
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::BadAnswer, what)
}

/// The shelf, seen through the weather.
pub(crate) struct Outdoors {
    pub(crate) inner: ShelfCloud,
    pub(crate) weather: Weather,
    pub(crate) budget: Arc<Budget>,
}

impl Outdoors {
    async fn request(&self, prefix: &NamePrefix) -> Result<()> {
        self.budget.spend(self.weather.pass(prefix)).await
    }
}

#[async_trait]
impl Cloud for Outdoors {
    fn capability(&self) -> &Capability {
        self.inner.capability()
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        let prefix = spec.name.prefix();
        self.request(prefix).await?;
        if self.weather.has(prefix, Fault::Quota) {
            return Err(Error::new(ErrorKind::QuotaExceeded, "the shelf is full"));
        }
        if self.weather.strikes(prefix, Fault::Launch) {
            return Err(refused("the launch was refused"));
        }
        let launched = self.inner.launch(spec).await;
        if self.weather.strikes(prefix, Fault::LaunchAfterEffect) {
            return Err(refused("the answer of the launch was lost"));
        }
        if self.weather.strikes(prefix, Fault::LaunchHangs) {
            std::future::pending::<()>().await;
        }
        launched
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        self.request(name.prefix()).await?;
        self.inner.get(name).await
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        self.request(prefix).await?;
        self.weather.at(prefix, |sky| sky.lists += 1);
        if self.weather.has(prefix, Fault::List) {
            return Err(refused("the list was refused"));
        }
        if self.weather.has(prefix, Fault::ListStale) {
            return Ok(self.weather.at(prefix, |sky| sky.stale.clone()));
        }
        let mut listed = self.inner.list(prefix).await?;
        if self.weather.has(prefix, Fault::ListTruncated) {
            listed.truncate(listed.len() / 2);
        }
        Ok(listed)
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        let prefix = instance.name.prefix();
        self.request(prefix).await?;
        if self.weather.strikes(prefix, Fault::Terminate) {
            return Err(refused("the termination was refused"));
        }
        self.inner.terminate(instance).await?;
        if self.weather.strikes(prefix, Fault::TerminateAfterEffect) {
            return Err(refused("the answer of the termination was lost"));
        }
        Ok(())
    }

    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        self.request(prefix).await?;
        self.inner.leftovers(prefix).await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        self.inner.remove_leftover(leftover).await
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        let prefix = instance.name.prefix();
        if self.weather.has(prefix, Fault::Guest) {
            return Err(refused("the way in is broken"));
        }
        if self.weather.has(prefix, Fault::GuestUnreachable) {
            return Err(Error::new(ErrorKind::Unreachable, "no route"));
        }
        let hangs = self.weather.has(prefix, Fault::GuestHangs);
        let inner = self.inner.guest(instance).await?;
        Ok(Box::new(Door { inner, hangs }))
    }

    async fn console(&self, instance: &CloudInstance) -> Result<Option<String>> {
        self.inner.console(instance).await
    }
}

/// A guest that may never answer.
struct Door {
    inner: Box<dyn Guest>,
    hangs: bool,
}

impl Door {
    async fn opens(&self) {
        if self.hangs {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Guest for Door {
    async fn probe(&self) -> Result<GuestProbe> {
        self.opens().await;
        self.inner.probe().await
    }

    async fn stop_runner(&self, mode: StopMode) -> Result<StopOutcome> {
        self.opens().await;
        self.inner.stop_runner(mode).await
    }

    async fn read_file(&self, file: runner_manager_core::ExchangeFile) -> Result<GuestFile> {
        self.opens().await;
        self.inner.read_file(file).await
    }
}
