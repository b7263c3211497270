//! What EC2 does to a manager, scenario by scenario, against moto behind the proxy.
//! `cargo xtask conformance ec2` runs it.

#[path = "../proxy/mod.rs"]
#[expect(dead_code, reason = "the conformance suite uses the rest")]
mod proxy;
#[path = "../site.rs"]
mod site;

mod capacity;
mod consistency;
mod launches;
mod limits;
mod sweep;
mod watcher;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use runner_manager_core::{
    BackendContext, Budgets, Connected, CreateRunner, GitHubPath, GitHubRunnerConfig, InstanceId,
    Labels, NamePrefix, RemoveToken, RunnerCredential, RunnerName, Secret, SupportServiceConfig,
    SystemClock, Timings,
};
use serde_json::Value;
use site::Site;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static SITE: OnceCell<Site> = OnceCell::const_new();

/// Runs a test on the site that all share.
fn run<F: Future<Output = ()>>(test: impl FnOnce(&'static Site) -> F) {
    RUNTIME.block_on(async {
        site::credentials();
        test(SITE.get_or_init(Site::open).await).await;
    });
}

/// A pool on the site, and its endpoint's name, which is its prefix.
struct Pool {
    prefix: NamePrefix,
    manager: Connected,
}

impl Pool {
    fn endpoint(&self) -> &str {
        self.prefix.as_str()
    }

    fn name(&self, id: &InstanceId) -> RunnerName {
        self.prefix.runner_name(id)
    }

    async fn create(&self) -> runner_manager_core::Result<InstanceId> {
        self.manager
            .create_runner(request(InstanceId::random()))
            .await
    }
}

fn context(prefix: &NamePrefix, budgets: &Budgets) -> BackendContext {
    BackendContext {
        prefix: prefix.clone(),
        timings: Timings {
            grace: Duration::ZERO,
            ..Timings::default()
        },
        clock: Arc::new(SystemClock),
        budgets: budgets.clone(),
    }
}

/// Connects a pool whose section differs from the smallest in these keys.
async fn pool(site: &Site, changes: Value) -> Pool {
    try_pool(site, changes).await.expect("the pool connects")
}

async fn try_pool(site: &Site, changes: Value) -> runner_manager_core::Result<Pool> {
    let prefix = site::prefix();
    let mut section = site.section(prefix.as_str());
    for (key, value) in changes.as_object().expect("a table") {
        section[key] = value.clone();
    }
    section
        .as_object_mut()
        .expect("a table")
        .retain(|_, value| !value.is_null());
    let manager = site::connect(context(&prefix, &Budgets::default()), section).await?;
    Ok(Pool { prefix, manager })
}

fn request(id: InstanceId) -> CreateRunner {
    CreateRunner {
        id,
        credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
        github: GitHubRunnerConfig {
            github_path: GitHubPath::parse("octo", None).expect("an organization"),
            labels: Labels::parse(["linux", "x64"]).expect("labels"),
        },
        support: SupportServiceConfig::default(),
    }
}

fn token() -> RemoveToken {
    RemoveToken::new(Secret::new("REMOVE"))
}
