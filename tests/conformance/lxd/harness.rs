//! The harness of LXD and Incus.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_backend_lxd::BACKEND;
use runner_manager_conformance::{
    Bench, Cannot, Counts, Did, Exposure, Fault, Harness, JobFate, Place, Planted, Received, Seen,
    trace,
};
use runner_manager_core::{
    BackendContext, CloudInitStatus, CloudRunnerState, Connected, CreateRunner, ExchangeFile,
    GitHubPath, GitHubRunnerConfig, InstanceId, Labels, NamePrefix, Result, RunnerCredential,
    RunnerName, Secret, SupportServiceConfig,
};
use serde_json::{Value, json};

use crate::faults::UNIQUE;
use crate::guest::{RUNNER, SETUP, USER, inside};
use crate::proxy::Proxy;
use crate::server::Server;
use crate::states;

const PREFIX_KEY: &str = "user.runner-manager.prefix";
const RUNNER_KEY: &str = "user.runner-manager.runner";
/// The peer's pool of plain folders.
const VOLUMES: &str = "plain";

/// One project for each case, and a proxy for each prefix.
pub(crate) struct LxdHarness {
    server: Server,
    base: tempfile::TempDir,
    proxies: Mutex<BTreeMap<NamePrefix, Proxy>>,
    projects: tokio::sync::Mutex<Vec<String>>,
}

/// The project of everything whose name begins with a case's stem.
fn project(name: &str) -> String {
    name.chars().take(Bench::STEM).collect()
}

impl LxdHarness {
    pub(crate) fn new() -> Self {
        Self {
            server: Server::new(),
            base: tempfile::tempdir().expect("a folder for sockets"),
            proxies: Mutex::default(),
            projects: tokio::sync::Mutex::default(),
        }
    }

    fn proxies(&self) -> MutexGuard<'_, BTreeMap<NamePrefix, Proxy>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the proxy of a prefix, which is started when it is first asked for.
    fn at<T>(&self, prefix: &NamePrefix, act: impl FnOnce(&Proxy) -> T) -> T {
        let mut proxies = self.proxies();
        let socket = self.base.path().join(proxies.len().to_string());
        let start = || Proxy::start(socket, PathBuf::from(&self.server.socket));
        act(proxies.entry(prefix.clone()).or_insert_with(start))
    }

    /// Makes the project of a case. It shares images and profiles with the default one.
    async fn project_of(&self, name: &str) -> String {
        let project = project(name);
        let mut known = self.projects.lock().await;
        if !known.contains(&project) {
            let mut words = vec!["project", "create", &project];
            for feature in ["images", "profiles"] {
                words.push("-c");
                words.push(match feature {
                    "images" => "features.images=false",
                    _ => "features.profiles=false",
                });
            }
            self.server.run(&words).await;
            known.push(project.clone());
        }
        project
    }

    async fn instance(&self, words: &[&str], name: &str) {
        let project = project(name);
        let mut all = words.to_vec();
        all.extend(["--project", &project, name]);
        self.server.run(&all).await;
    }

    async fn counted(&self, prefix: &NamePrefix) -> (usize, usize) {
        let project = self.project_of(prefix.as_str()).await;
        let instances = format!("/1.0/instances?project={project}");
        let volumes = format!("/1.0/storage-pools/{VOLUMES}/volumes/custom?project={project}");
        let instances = self.server.names(&instances).await;
        let instances = instances.iter().filter(|name| prefix.owned(name).is_some());
        let volumes = self.server.names(&volumes).await;
        let of_prefix = |name: &&String| {
            let runner = name.rsplit_once('-').map(|(runner, _)| runner);
            runner.is_some_and(|runner| prefix.owned(runner).is_some())
        };
        (instances.count(), volumes.iter().filter(of_prefix).count())
    }
}

#[async_trait]
impl Harness for LxdHarness {
    fn scheme(&self) -> &'static str {
        match self.server.kind.as_str() {
            "incus" => "incus",
            _ => "lxd",
        }
    }

    async fn manager(&self, context: BackendContext) -> Result<Connected> {
        let project = self.project_of(context.prefix.as_str()).await;
        let reached = |proxy: &Proxy| (proxy.socket.clone(), proxy.rules().reached);
        let (socket, reached) = self.at(&context.prefix, reached);
        let mut section = json!({
            "socket": socket,
            "project": project,
            "image": {"alias": "runner"},
            "limits": {"memory_bytes": 512 << 20, "processes": 1000},
            "volumes": [{"pool": VOLUMES, "path": "/var/lib/docker", "size_bytes": 64 << 20}],
            "boot": {
                "user": USER,
                "home": "/home/runner",
                "runner": {"path": RUNNER},
                "update_packages": false,
                "extra_parts": [{"kind": "boothook", "content": SETUP}],
            },
        });
        if let Some(port) = reached {
            // A guest has no network: a port of its loopback is one of this machine's.
            let address = format!("tcp:127.0.0.1:{port}");
            section["devices"]["reached"] = json!({
                "type": "proxy", "bind": "instance", "listen": address, "connect": address,
            });
        }
        (BACKEND.connect)(context, section).await
    }

    fn request(&self, id: InstanceId) -> CreateRunner {
        CreateRunner {
            id,
            credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
            github: GitHubRunnerConfig {
                github_path: GitHubPath::parse("octo", None).expect("a path"),
                labels: Labels::parse(["linux", "x64"]).expect("labels"),
            },
            support: SupportServiceConfig::default(),
        }
    }

    async fn reach(&self, prefix: &NamePrefix, port: u16) -> Seen<String> {
        self.at(prefix, |proxy| proxy.rules().reached = Some(port));
        Ok(format!("http://127.0.0.1:{port}"))
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let (instances, volumes) = self.counted(prefix).await;
        Counts::from([("instances", instances), ("volumes", volumes)])
    }

    fn list_calls(&self, prefix: &NamePrefix) -> Seen<usize> {
        Ok(self.at(prefix, |proxy| proxy.rules().lists))
    }

    fn requests(&self, prefix: &NamePrefix) -> Seen<usize> {
        Ok(self.at(prefix, |proxy| proxy.rules().requests))
    }

    fn page_size(&self) -> Option<usize> {
        None
    }

    async fn received(&self, name: &RunnerName) -> Seen<Received> {
        let project = project(&name.to_string());
        let trace = trace(name).display().to_string();
        let seen = inside(&self.server, &project, name).received(&trace).await;
        seen.ok_or(Cannot("the runner was not configured with a token"))
    }

    async fn exposed(&self, name: &RunnerName, place: Place) -> Seen<Vec<Exposure>> {
        let project = project(&name.to_string());
        let inside = inside(&self.server, &project, name);
        let one = |place: &str, text: Vec<u8>| {
            let place = place.to_owned();
            vec![Exposure { place, text }]
        };
        Ok(match place {
            Place::Arguments => {
                let mut found = one("arguments on the instance", inside.arguments().await);
                found.extend(arguments());
                found
            }
            Place::Files => {
                let all = inside.readable().await;
                let parts: Vec<&[u8]> = all.split(|byte| *byte == 0).collect();
                let pair = |pair: &[&[u8]]| Exposure {
                    place: String::from_utf8_lossy(pair[0]).into_owned(),
                    text: pair[1].to_vec(),
                };
                parts.chunks_exact(2).map(pair).collect()
            }
            Place::Metadata => one("the guest API", inside.guest_api().await),
        })
    }

    async fn offer_job(&self, name: &RunnerName) -> Did {
        let project = project(&name.to_string());
        inside(&self.server, &project, name).offer_job().await;
        Ok(())
    }

    async fn job_fate(&self, name: &RunnerName) -> JobFate {
        let project = project(&name.to_string());
        inside(&self.server, &project, name).job_fate().await
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        self.instance(&["stop", "--force"], &name.to_string()).await;
        Ok(())
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        let project = project(&name.to_string());
        self.instance(&["delete", "--force"], &name.to_string())
            .await;
        let volume = format!("{name}-0");
        let words = [
            "storage",
            "volume",
            "delete",
            VOLUMES,
            &volume,
            "--project",
            &project,
        ];
        self.server.run(&words).await;
        Ok(())
    }

    async fn end_runner(&self, name: &RunnerName) -> Did {
        let project = project(&name.to_string());
        inside(&self.server, &project, name).end_runner().await;
        Ok(())
    }

    fn native_states(&self) -> Vec<(&'static str, CloudRunnerState)> {
        states::all()
    }

    async fn force_state(&self, name: &RunnerName, native: &'static str) -> Did {
        self.at(name.prefix(), |proxy| {
            proxy.rules().forced.insert(name.to_string(), native);
        });
        Ok(())
    }

    async fn make_twin(&self, _: &RunnerName) -> Did {
        UNIQUE
    }

    async fn make_stranger(&self, name: &str) -> Did {
        let project = self.project_of(name).await;
        let words = ["init", "runner", name, "--project", &project];
        self.server.run(&words).await;
        Ok(())
    }

    async fn take_stranger(&self, name: &str) -> bool {
        let project = project(name);
        let words = ["delete", "--force", "--project", &project, name];
        self.server.try_run(&words, b"").await.is_ok()
    }

    fn leftover_kinds(&self) -> &'static [&'static str] {
        &["volumes"]
    }

    async fn leave_leftover(&self, name: &RunnerName, _: &'static str) -> Did {
        let project = self.project_of(&name.to_string()).await;
        let volume = format!("{name}-0");
        let prefix = format!("{PREFIX_KEY}={}", name.prefix());
        let runner = format!("{RUNNER_KEY}={name}");
        let words = [
            "storage", "volume", "create", VOLUMES, &volume, &prefix, &runner,
        ];
        let words: Vec<&str> = words.into_iter().chain(["--project", &project]).collect();
        self.server.run(&words).await;
        Ok(())
    }

    async fn set_cloud_init(&self, name: &RunnerName, status: CloudInitStatus) -> Did {
        let project = project(&name.to_string());
        let done = inside(&self.server, &project, name)
            .set_cloud_init(status)
            .await;
        assert!(done, "the instance {name} takes no commands");
        Ok(())
    }

    async fn put_file(&self, name: &RunnerName, file: ExchangeFile, what: Planted) -> Did {
        let project = project(&name.to_string());
        let done = inside(&self.server, &project, name).put(file, what).await;
        assert!(done, "the instance {name} takes no files");
        Ok(())
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        if fault == Fault::Quota {
            let project = self.project_of(prefix.as_str()).await;
            let now = self
                .server
                .names(&format!("/1.0/instances?project={project}"))
                .await;
            let most = now.len().to_string();
            self.server
                .run(&["project", "set", &project, "limits.instances", &most])
                .await;
        }
        self.at(prefix, |proxy| {
            let mut rules = proxy.rules();
            rules.faults.push(fault);
            rules.stale = None;
        });
        if fault == Fault::ListStale {
            self.remember(prefix).await;
        }
        Ok(())
    }

    async fn mend(&self, prefix: &NamePrefix) {
        let had_quota = self.at(prefix, |proxy| {
            let mut rules = proxy.rules();
            rules.forced.clear();
            let had_quota = rules.faults.contains(&Fault::Quota);
            rules.faults.clear();
            had_quota
        });
        if had_quota {
            let project = project(prefix.as_str());
            self.server
                .run(&["project", "unset", &project, "limits.instances"])
                .await;
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(180)
    }

    fn window(&self) -> Duration {
        Duration::from_secs(2)
    }
}

impl LxdHarness {
    /// Keeps the list of now, which stale answers repeat.
    async fn remember(&self, prefix: &NamePrefix) {
        let project = project(prefix.as_str());
        let path = format!("/1.0/instances?recursion=2&project={project}");
        let list: Value = self.server.query(&path).await;
        self.at(prefix, |proxy| proxy.rules().stale = Some(list));
    }
}

/// The arguments of every process of this machine; `/proc` shows them to everybody.
fn arguments() -> Vec<Exposure> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("processes").flatten() {
        if let Ok(text) = std::fs::read(entry.path().join("cmdline")) {
            let place = format!("arguments of process {}", entry.path().display());
            found.push(Exposure { place, text });
        }
    }
    found
}
