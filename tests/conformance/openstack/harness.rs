//! The harness of the OpenStack backend.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runner_manager_backend_openstack::BACKEND;
use runner_manager_conformance::{
    Bench, Cannot, Counts, Did, Exposure, Fault, Harness, JobFate, Place, Planted, Received, Seen,
};
use runner_manager_core::{
    BackendContext, CloudInitStatus, CloudRunnerState, Connected, CreateRunner, ExchangeFile,
    GitHubPath, GitHubRunnerConfig, InstanceId, Labels, NamePrefix, Result, RunnerCredential,
    RunnerName, Secret, SupportServiceConfig,
};
use runner_manager_guest_ssh::{KeyFolder, RunnerKeys};
use serde_json::json;
use tokio::sync::Mutex;

use crate::machine;
use crate::proxy::Proxy;
use crate::site::Site;

/// The peer's first address, from which SSH comes in.
const MANAGER: &str = "172.31.255.1/32";

/// One proxy for each prefix, one state folder for each case, and one cloud for all.
pub(crate) struct OpenstackHarness {
    base: tempfile::TempDir,
    state: PathBuf,
    site: Site,
    proxies: Mutex<HashMap<NamePrefix, Proxy>>,
    counted: std::sync::Mutex<HashMap<NamePrefix, Proxy>>,
}

pub(crate) fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    let value = value.unwrap_or_else(|| {
        panic!("{name} is not set: `cargo xtask conformance openstack` starts the peer")
    });
    value.into()
}

impl OpenstackHarness {
    pub(crate) fn new() -> Self {
        let state = variable("OPENSTACK_STATE");
        Self {
            base: tempfile::tempdir().expect("a folder"),
            site: Site::start(
                &variable("OPENSTACK_PYTHON"),
                &variable("OPENSTACK_CLOUDS"),
                &state,
            ),
            state,
            proxies: Mutex::default(),
            counted: std::sync::Mutex::default(),
        }
    }

    async fn proxy(&self, prefix: &NamePrefix) -> Proxy {
        let mut proxies = self.proxies.lock().await;
        if let Some(proxy) = proxies.get(prefix) {
            return proxy.clone();
        }
        let proxy = Proxy::start().await;
        proxies.insert(prefix.clone(), proxy.clone());
        let mut counted = self.counted.lock().expect("no case panics in here");
        counted.insert(prefix.clone(), proxy.clone());
        proxy
    }

    fn counter(&self, prefix: &NamePrefix) -> Seen<Proxy> {
        let counted = self.counted.lock().expect("no case panics in here");
        counted
            .get(prefix)
            .cloned()
            .ok_or(Cannot("no manager of the prefix was made"))
    }

    /// The state folder of a case.
    fn folder(&self, prefix: &NamePrefix) -> PathBuf {
        let stem: String = prefix.as_str().chars().take(Bench::STEM).collect();
        self.base.path().join(stem)
    }

    /// A `clouds.yaml` that leads through a proxy.
    fn clouds(&self, prefix: &NamePrefix, proxy: &Proxy) -> PathBuf {
        let path = self.base.path().join(format!("{prefix}.yaml"));
        fs::write(&path, proxy.clouds().to_string()).expect("a file");
        path
    }

    fn keys(&self, prefix: &NamePrefix) -> KeyFolder {
        KeyFolder::open(self.folder(prefix).join("keys")).expect("a folder")
    }
}

#[async_trait]
impl Harness for OpenstackHarness {
    fn scheme(&self) -> &'static str {
        "openstack"
    }

    async fn manager(&self, context: BackendContext) -> Result<Connected> {
        let proxy = self.proxy(&context.prefix).await;
        let section = json!({
            "cloud": "test",
            "clouds_file": self.clouds(&context.prefix, &proxy),
            "state_dir": self.folder(&context.prefix),
            "image": "plain",
            "flavor": "nano",
            "network": "private",
            "security_group": {"ssh_cidr": MANAGER},
            "requests_per_second": 10,
            "boot": {"update_packages": false},
        });
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

    async fn reach(&self, _: &NamePrefix, port: u16) -> Seen<String> {
        // Its machines use this machine's network.
        Ok(format!("http://127.0.0.1:{port}"))
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let seen = self
            .site
            .ask("count", json!({"prefix": prefix.as_str()}))
            .await;
        let mut counts = Counts::new();
        for kind in ["servers", "ports", "key pairs"] {
            let count = seen[kind]
                .as_u64()
                .and_then(|count| usize::try_from(count).ok());
            counts.insert(kind, count.expect("a number"));
        }
        counts.insert(
            "key files",
            self.keys(prefix).names(prefix).expect("a list").len(),
        );
        counts
    }

    fn list_calls(&self, prefix: &NamePrefix) -> Seen<usize> {
        self.counter(prefix).map(|proxy| proxy.lists())
    }

    fn requests(&self, prefix: &NamePrefix) -> Seen<usize> {
        self.counter(prefix).map(|proxy| proxy.requests())
    }

    fn page_size(&self) -> Option<usize> {
        Some(10)
    }

    async fn received(&self, name: &RunnerName) -> Seen<Received> {
        let seen = machine::received(&self.state, name);
        seen.ok_or(Cannot("the runner was not configured with a token"))
    }

    async fn exposed(&self, name: &RunnerName, place: Place) -> Seen<Vec<Exposure>> {
        Ok(match place {
            Place::Arguments => arguments(),
            Place::Files => {
                let mut found = Vec::new();
                readable(self.base.path(), &mut found);
                let machine = machine::of(&self.state, name);
                let inside = machine
                    .map(|machine| machine.readable())
                    .unwrap_or_default();
                found.extend(
                    inside
                        .into_iter()
                        .map(|(place, text)| Exposure { place, text }),
                );
                found
            }
            Place::Metadata => {
                let texts = self.site.about("show", &name.to_string()).await;
                let texts = texts.as_array().cloned().unwrap_or_default();
                let texts = texts.iter().filter_map(|text| text.as_str());
                texts
                    .map(|text| Exposure {
                        place: "the API".into(),
                        text: text.into(),
                    })
                    .collect()
            }
        })
    }

    async fn offer_job(&self, name: &RunnerName) -> Did {
        let end = Instant::now() + Duration::from_secs(30);
        while let Some(machine) = machine::of(&self.state, name) {
            let taken = tokio::task::spawn_blocking(move || machine.offer()).await;
            if taken.unwrap_or(false) || Instant::now() > end {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn job_fate(&self, name: &RunnerName) -> JobFate {
        if !machine::outside(&self.state, name).join("begun").exists() {
            return JobFate::NotBegun;
        }
        match machine::of(&self.state, name) {
            Some(machine) if machine.works() => JobFate::Runs,
            _ => JobFate::Killed,
        }
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        self.site.about("stop", &name.to_string()).await;
        Ok(())
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        self.site.about("vanish", &name.to_string()).await;
        self.keys(name.prefix()).remove(name).expect("removed");
        Ok(())
    }

    async fn end_runner(&self, name: &RunnerName) -> Did {
        machine::of(&self.state, name)
            .expect("a machine")
            .end_runner();
        Ok(())
    }

    fn native_states(&self) -> Vec<(&'static str, CloudRunnerState)> {
        use CloudRunnerState::{Active, Created, Deleted, Error, Stopped, Unexpected, Unknown};
        vec![
            ("ACTIVE", Active),
            ("BUILD", Created),
            ("DELETED", Deleted),
            ("ERROR", Error),
            ("HARD_REBOOT", Active),
            ("MIGRATING", Active),
            ("PASSWORD", Active),
            ("PAUSED", Stopped),
            ("REBOOT", Active),
            ("REBUILD", Created),
            ("RESCUE", Stopped),
            ("RESIZE", Stopped),
            ("REVERT_RESIZE", Stopped),
            ("SHELVED", Stopped),
            ("SHELVED_OFFLOADED", Stopped),
            ("SHUTOFF", Stopped),
            ("SOFT_DELETED", Deleted),
            ("SUSPENDED", Stopped),
            ("UNKNOWN", Unknown),
            ("VERIFY_RESIZE", Active),
            ("MADE_UP", Unexpected("MADE_UP".into())),
        ]
    }

    async fn force_state(&self, name: &RunnerName, native: &'static str) -> Did {
        self.proxy(name.prefix())
            .await
            .force(name.to_string(), native);
        Ok(())
    }

    async fn make_twin(&self, name: &RunnerName) -> Did {
        let details = json!({"name": name.to_string(), "prefix": name.prefix().as_str()});
        self.site.ask("twin", details).await;
        Ok(())
    }

    async fn make_stranger(&self, name: &str) -> Did {
        self.site.about("stranger", name).await;
        Ok(())
    }

    async fn take_stranger(&self, name: &str) -> bool {
        self.site
            .about("take_stranger", name)
            .await
            .as_bool()
            .unwrap_or(false)
    }

    fn leftover_kinds(&self) -> &'static [&'static str] {
        &["ports", "key pairs", "key files"]
    }

    async fn leave_leftover(&self, name: &RunnerName, kind: &'static str) -> Did {
        let text = name.to_string();
        match kind {
            "ports" => {
                let details = json!({"name": text, "prefix": name.prefix().as_str()});
                self.site.ask("leave_port", details).await;
            }
            "key pairs" => {
                let keys = RunnerKeys::generate(name)
                    .expect("keys")
                    .client_public()
                    .expect("a key");
                self.site
                    .ask("leave_key_pair", json!({"name": text, "public": keys}))
                    .await;
            }
            _ => drop(self.keys(name.prefix()).obtain(name).expect("keys")),
        }
        Ok(())
    }

    async fn set_cloud_init(&self, name: &RunnerName, status: CloudInitStatus) -> Did {
        machine::of(&self.state, name)
            .expect("a machine")
            .set_cloud_init(status);
        Ok(())
    }

    async fn put_file(&self, name: &RunnerName, file: ExchangeFile, what: Planted) -> Did {
        machine::of(&self.state, name)
            .expect("a machine")
            .put(file, what);
        Ok(())
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        if matches!(
            fault,
            Fault::Guest | Fault::GuestUnreachable | Fault::GuestHangs
        ) {
            for machine in machine::all(&self.state, prefix) {
                machine.fail(fault);
            }
        } else {
            self.proxy(prefix).await.plant(fault);
        }
        Ok(())
    }

    async fn mend(&self, prefix: &NamePrefix) {
        self.proxy(prefix).await.mend();
        for machine in machine::all(&self.state, prefix) {
            machine.mend();
        }
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(180)
    }

    fn window(&self) -> Duration {
        // The peer's control plane is slow.
        Duration::from_secs(5)
    }
}

/// The arguments of every process of this machine, those of all machines of the peer among them.
fn arguments() -> Vec<Exposure> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Ok(text) = fs::read(entry.path().join("cmdline")) {
            let place = format!("arguments of process {}", entry.path().display());
            found.push(Exposure { place, text });
        }
    }
    found
}

/// Files that others may read, in folders that others may pass.
fn readable(folder: &Path, found: &mut Vec<Exposure>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let mode = meta.permissions().mode();
        if meta.is_dir() && mode & 0o011 != 0 {
            readable(&path, found);
        } else if meta.is_file()
            && mode & 0o044 != 0
            && let Ok(text) = fs::read(&path)
        {
            found.push(Exposure {
                place: path.display().to_string(),
                text,
            });
        }
    }
}
