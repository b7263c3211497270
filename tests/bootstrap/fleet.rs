//! A manager at work on pools of such instances.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use runner_manager_core::{
    BootConfig, GitHubPath, GitHubRunnerConfig, HostedRunners, Labels, LaunchSpec, NamePrefix,
    ProxyConfig, RunnerCredential, Secret, SshDebugConnection, SupportServiceConfig, SystemClock,
    Timings,
};
use runner_manager_fleet::{
    CallbackConfig, ManagerServices, PoolConfig, Registration, RepoPolicyConfig,
};
use serde_json::Value;

use crate::cloud::{Archive, RootCloud, capability};
use crate::peers::POLICY_SECRET;

/// The runner group, in a name that would be code.
pub(crate) const GROUP: &str = "it's a \"group\" $(touch /owned) `id`";

pub(crate) fn launch() -> LaunchSpec {
    LaunchSpec {
        name: "app-0123456789ab".parse().expect("a name"),
        credential: RunnerCredential::JitConfig(Secret::new("SklULUNPTkZJRw==")),
        github: GitHubRunnerConfig {
            github_path: GitHubPath::parse("acme", Some(GROUP)).expect("a path"),
            labels: Labels::parse(["test"]).expect("labels"),
        },
        support: SupportServiceConfig::default(),
    }
}

/// All services, with a proxy of this machine that wants a password.
pub(crate) fn support(proxy: u16, password: &str) -> SupportServiceConfig {
    let mut url: url::Url = format!("http://127.0.0.1:{proxy}").parse().expect("a URL");
    url.set_username("joe").expect("a user");
    url.set_password(Some(password)).expect("a password");
    SupportServiceConfig {
        proxy_config: Some(ProxyConfig {
            http: Some(url.clone()),
            https: Some(url),
            no_proxy: vec!["127.0.0.1".into()],
            transparent: false,
        }),
        dockerhub_mirror: "http://127.0.0.2:5000".parse().ok(),
        ssh_debug_connections: vec![SshDebugConnection {
            host: "tmate.internal".into(),
            port: 10_022,
            rsa_fingerprint: "SHA256:r's\"a".into(),
            ed25519_fingerprint: "SHA256:$(ed)".into(),
        }],
        repo_policy_compliance: None,
    }
}

/// What the pools of a run share.
pub(crate) struct Plan<'a> {
    pub(crate) lower: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) archive: Archive,
    pub(crate) boot_deadline: Duration,
    pub(crate) events: PathBuf,
    pub(crate) policy: String,
    pub(crate) support: SupportServiceConfig,
}

impl Plan<'_> {
    /// A pool whose name is its label and its mood at the policy service.
    pub(crate) fn pool(
        &self,
        name: &str,
        boot: Value,
        callback: Option<CallbackConfig>,
    ) -> PoolConfig {
        let timings = Timings {
            grace: Duration::from_secs(60),
            ..Timings::default()
        };
        let cloud = RootCloud {
            lower: self.lower.to_owned(),
            work: self.folder.to_owned(),
            boot: serde_json::from_value::<BootConfig>(boot).expect("a section"),
            machines: Mutex::default(),
            archive: self.archive.clone(),
            capability: capability(),
        };
        let (prefix, clock) = (
            NamePrefix::new(name).expect("a prefix"),
            Arc::new(SystemClock),
        );
        let policy = callback.is_some().then(|| RepoPolicyConfig {
            url: format!("http://{}/{name}", self.policy)
                .parse()
                .expect("a URL"),
            token: Secret::new(POLICY_SECRET),
        });
        let manager = HostedRunners::new(cloud, prefix, timings.clone(), clock);
        let path = GitHubPath::parse("acme", Some(GROUP)).expect("a path");
        let labels = Labels::parse([name]).expect("labels");
        PoolConfig {
            repositories: vec![("acme".into(), "app".into())],
            support: self.support.clone(),
            registration: if callback.is_some() {
                Registration::Jit
            } else {
                Registration::Token
            },
            services: Arc::new(ManagerServices {
                callback,
                repo_policy: policy,
                events_file: Some(self.events.clone()),
            }),
            boot_deadline: self.boot_deadline,
            grace: timings.grace,
            ..PoolConfig::new(name, "test", Arc::new(manager), path, labels, 1)
        }
    }
}
