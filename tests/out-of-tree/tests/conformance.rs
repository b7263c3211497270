//! The proof that the shelf keeps the contract.

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use runner_manager_conformance::{Counts, Did, Fault, Harness};
use runner_manager_core::{
    Connected, CreateRunner, GitHubPath, GitHubRunnerConfig, HostedRunners, InstanceId, Labels,
    NamePrefix, Result, RunnerCredential, RunnerName, Secret, SupportServiceConfig, SystemClock,
    Timings,
};
use shelf_backend::{Item, Shelf, ShelfCloud};

struct ShelfHarness(Shelf);

impl ShelfHarness {
    fn change(&self, name: &RunnerName, change: impl FnOnce(&mut Item)) -> Did {
        change(self.0.items().get_mut(name).expect("the case made it"));
        Did::Done
    }
}

#[async_trait]
impl Harness for ShelfHarness {
    fn scheme(&self) -> &'static str {
        "shelf"
    }

    async fn manager(&self, prefix: &NamePrefix, timings: &Timings) -> Result<Connected> {
        let cloud = ShelfCloud::new(self.0.clone());
        let (prefix, clock) = (prefix.clone(), Arc::new(SystemClock));
        Ok(Arc::new(HostedRunners::new(
            cloud,
            prefix,
            timings.clone(),
            clock,
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

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let items = self.0.items();
        let mine = items.keys().filter(|name| name.prefix() == prefix);
        Counts::from([("items", mine.count())])
    }

    async fn start_job(&self, name: &RunnerName) -> Did {
        self.change(name, |item| item.job = true)
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        self.change(name, |item| item.runs = false)
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        self.0.items().remove(name);
        Did::Done
    }

    async fn leave_leftover(&self, _: &RunnerName) -> Did {
        Did::Cannot("an instance is one item, of which nothing can be left")
    }

    async fn make_stranger(&self, _: &RunnerName) -> Did {
        Did::Cannot("nobody else has a key to the shelf")
    }

    async fn take_stranger(&self, _: &RunnerName) -> bool {
        false
    }

    async fn fail(&self, _: &NamePrefix, _: Fault) -> Did {
        Did::Cannot("memory does not fail")
    }

    async fn mend(&self, _: &NamePrefix) {}

    fn list_calls(&self, _: &NamePrefix) -> Option<usize> {
        None
    }
}

fn main() -> ExitCode {
    let harness: Arc<dyn Harness> = Arc::new(ShelfHarness(Shelf::default()));
    runner_manager_conformance::main(&harness)
}
