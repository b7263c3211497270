//! The proof that the shelf keeps the contract.

mod weather;

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_conformance::{
    Cannot, Counts, Did, Exposure, Fault, Harness, JobFate, Place, Planted, Received, Seen,
};
use runner_manager_core::{
    BackendContext, BudgetLimits, Cloud, CloudInitStatus, CloudRunnerState, Connected,
    CreateRunner, ExchangeFile, GitHubPath, GitHubRunnerConfig, HostedRunners, InstanceId, Labels,
    NamePrefix, Result, RunnerCredential, RunnerName, Secret, SupportServiceConfig,
};
use shelf_backend::{Item, Shelf, ShelfCloud};

use weather::{Outdoors, Weather};

#[derive(Default)]
struct ShelfHarness {
    shelf: Shelf,
    weather: Weather,
    /// The runners whose job once ran.
    began: Mutex<HashSet<RunnerName>>,
}

impl ShelfHarness {
    fn change(&self, name: &RunnerName, change: impl FnOnce(&mut Item)) -> Did {
        let mut items = self.shelf.items();
        let item = items.get_mut(name).ok_or(Cannot("it is gone"))?;
        change(item);
        Ok(())
    }
}

#[async_trait]
impl Harness for ShelfHarness {
    fn scheme(&self) -> &'static str {
        "shelf"
    }

    async fn manager(&self, context: BackendContext) -> Result<Connected> {
        let limits = BudgetLimits {
            rate: 1_000.0,
            floor: 4.0,
            burst: 100,
            recovery: Duration::from_millis(200),
            max_wait: Duration::from_millis(300),
        };
        let cloud = Outdoors {
            inner: ShelfCloud::new(self.shelf.clone()),
            weather: self.weather.clone(),
            budget: context.budgets.of("shelf", limits),
        };
        Ok(Arc::new(HostedRunners::new(
            cloud,
            context.prefix,
            context.timings,
            context.clock,
        )))
    }

    fn request(&self, id: InstanceId) -> CreateRunner {
        CreateRunner {
            id,
            credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
            github: GitHubRunnerConfig {
                github_path: GitHubPath::parse("octo/hello", None).expect("a valid path"),
                labels: Labels::parse(["linux"]).expect("valid labels"),
            },
            support: SupportServiceConfig::default(),
        }
    }

    async fn reach(&self, _: &NamePrefix, _: u16) -> Seen<String> {
        Err(Cannot("nothing runs on a shelf, and so nothing claims"))
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let items = self.shelf.items();
        let mine = items.keys().filter(|name| name.prefix() == prefix);
        Counts::from([("instances", mine.count())])
    }

    fn list_calls(&self, prefix: &NamePrefix) -> Seen<usize> {
        Ok(self.weather.at(prefix, |sky| sky.lists))
    }

    fn requests(&self, prefix: &NamePrefix) -> Seen<usize> {
        Ok(self.weather.at(prefix, |sky| sky.requests))
    }

    fn page_size(&self) -> Option<usize> {
        None
    }

    async fn received(&self, _: &RunnerName) -> Seen<Received> {
        Err(Cannot(
            "nothing runs on a shelf, so that nothing is given to it",
        ))
    }

    async fn exposed(&self, _: &RunnerName, _: Place) -> Seen<Vec<Exposure>> {
        // The shelf keeps nothing of a request but the name.
        Ok(Vec::new())
    }

    async fn offer_job(&self, name: &RunnerName) -> Did {
        let mut items = self.shelf.items();
        if let Some(item) = items.get_mut(name).filter(|item| item.runs && item.listens) {
            item.job = true;
            let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
            began.insert(name.clone());
        }
        Ok(())
    }

    async fn job_fate(&self, name: &RunnerName) -> JobFate {
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        match self.shelf.items().get(name) {
            _ if !began.contains(name) => JobFate::NotBegun,
            Some(item) if item.job => JobFate::Runs,
            _ => JobFate::Killed,
        }
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        self.change(name, |item| item.runs = false)
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        self.shelf.items().remove(name);
        Ok(())
    }

    async fn end_runner(&self, name: &RunnerName) -> Did {
        self.change(name, |item| item.listens = false)
    }

    fn native_states(&self) -> Vec<(&'static str, CloudRunnerState)> {
        vec![
            ("runs", CloudRunnerState::Active),
            ("lies still", CloudRunnerState::Stopped),
        ]
    }

    async fn force_state(&self, name: &RunnerName, native: &'static str) -> Did {
        self.change(name, |item| item.runs = native == "runs")
    }

    async fn make_twin(&self, _: &RunnerName) -> Did {
        Err(Cannot("a name has one place on the shelf"))
    }

    async fn make_stranger(&self, _: &str) -> Did {
        Err(Cannot("nobody else has a key to the shelf"))
    }

    async fn take_stranger(&self, _: &str) -> bool {
        false
    }

    fn leftover_kinds(&self) -> &'static [&'static str] {
        &[]
    }

    async fn leave_leftover(&self, _: &RunnerName, _: &'static str) -> Did {
        Err(Cannot(
            "an instance is one item, of which nothing can be left",
        ))
    }

    async fn set_cloud_init(&self, _: &RunnerName, _: CloudInitStatus) -> Did {
        Err(Cannot("nothing boots on a shelf"))
    }

    async fn put_file(&self, name: &RunnerName, file: ExchangeFile, what: Planted) -> Did {
        let bytes = match what {
            Planted::Nothing => None,
            Planted::Bytes(bytes) => Some(bytes),
            Planted::Symlink | Planted::Endless => {
                return Err(Cannot("the files of a shelf are bytes in memory"));
            }
        };
        self.change(name, |item| {
            item.files.remove(&file);
            item.files.extend(bytes.map(|bytes| (file, bytes)));
        })
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        let cloud = ShelfCloud::new(self.shelf.clone());
        let now = cloud.list(prefix).await.expect("a shelf can be listed");
        self.weather.plant(prefix, fault, now)
    }

    async fn mend(&self, prefix: &NamePrefix) {
        self.weather.clear(prefix);
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn window(&self) -> Duration {
        Duration::from_millis(300)
    }
}

fn main() -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(ShelfHarness::default());
    runner_manager_conformance::main(&harness, include_str!("../../waivers.toml"))
}
