//! A manager on the peer, for the tests beside the suite.

use std::sync::Arc;

use runner_manager_backend_openstack::BACKEND;
use runner_manager_core::{
    BackendContext, Budgets, Connected, CreateRunner, GitHubPath, GitHubRunnerConfig, InstanceId,
    Labels, NamePrefix, RemoveToken, Result, RunnerCredential, Secret, SupportServiceConfig,
    SystemClock, Timings,
};
use serde_json::Value;

pub(crate) async fn connect(prefix: &str, timings: Timings, section: Value) -> Result<Connected> {
    let context = BackendContext {
        prefix: NamePrefix::new(prefix).expect("a prefix"),
        timings,
        clock: Arc::new(SystemClock),
        budgets: Budgets::default(),
    };
    (BACKEND.connect)(context, section).await
}

pub(crate) fn request(id: InstanceId) -> CreateRunner {
    CreateRunner {
        id,
        credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
        github: GitHubRunnerConfig {
            github_path: GitHubPath::parse("octo", None).expect("a path"),
            labels: Labels::parse(["linux"]).expect("labels"),
        },
        support: SupportServiceConfig::default(),
    }
}

pub(crate) fn token() -> RemoveToken {
    RemoveToken::new(Secret::new("remove"))
}
