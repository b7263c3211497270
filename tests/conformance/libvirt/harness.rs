//! The harness of libvirt.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_backend_libvirt::BACKEND;
use runner_manager_conformance::{
    Bench, Cannot, Counts, Did, Exposure, Fault, Harness, JobFate, Place, Planted, Received, Seen,
    trace,
};
use runner_manager_core::{
    BackendContext, CloudInitStatus, CloudRunnerState, Connected, CreateRunner, ExchangeFile,
    GitHubPath, GitHubRunnerConfig, InstanceId, Labels, NamePrefix, Result, RunnerCredential,
    RunnerName, Secret, SupportServiceConfig,
};

use crate::guest::Inside;
use crate::proxy::Proxy;
use crate::site::Site;
use crate::states;

/// One host for all cases, and a proxy for each prefix.
pub(crate) struct LibvirtHarness {
    site: Site,
    base: tempfile::TempDir,
    proxies: Mutex<BTreeMap<NamePrefix, Proxy>>,
}

/// What ends the names of volumes of a kind.
pub(crate) fn ending(kind: &str) -> &'static str {
    match kind {
        "disks" => "qcow2",
        "seeds" => "iso",
        _ => "log",
    }
}

impl LibvirtHarness {
    pub(crate) fn new() -> Self {
        Self {
            site: Site::new(),
            base: tempfile::tempdir().expect("a folder for sockets"),
            proxies: Mutex::default(),
        }
    }

    fn proxies(&self) -> MutexGuard<'_, BTreeMap<NamePrefix, Proxy>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the proxy of a prefix, which is started when it is first asked for.
    fn at<T>(&self, prefix: &NamePrefix, act: impl FnOnce(&Proxy) -> T) -> T {
        let mut proxies = self.proxies();
        let socket = self.base.path().join(proxies.len().to_string());
        let start = || Proxy::start(socket, self.site.socket.clone());
        act(proxies.entry(prefix.clone()).or_insert_with(start))
    }

    fn inside(&self, name: &RunnerName) -> Inside<'_> {
        Inside::new(&self.site, name)
    }
}

#[async_trait]
impl Harness for LibvirtHarness {
    fn scheme(&self) -> &'static str {
        "libvirt"
    }

    async fn manager(&self, context: BackendContext) -> Result<Connected> {
        let reached = |proxy: &Proxy| (proxy.socket.clone(), proxy.rules().relay);
        let (socket, relay) = self.at(&context.prefix, reached);
        let section = self.site.section(&socket, relay);
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
        self.at(prefix, |proxy| proxy.rules().relay = Some(port));
        Ok(format!("http://127.0.0.1:{port}"))
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        let domains = self.site.domains(|name| prefix.owned(name).is_some());
        let mut counts = Counts::from([("instances", domains.await.len())]);
        for kind in self.leftover_kinds() {
            counts.insert(kind, self.site.files(prefix, ending(kind)).len());
        }
        counts
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
        let trace = trace(name).display().to_string();
        let seen = self.inside(name).received(&trace).await;
        seen.ok_or(Cannot("the runner was not configured with a token"))
    }

    async fn exposed(&self, name: &RunnerName, place: Place) -> Seen<Vec<Exposure>> {
        let inside = self.inside(name);
        Ok(match place {
            Place::Arguments => {
                let text = inside.arguments().await;
                let place = "arguments in the guest".to_owned();
                let mut found = vec![Exposure { place, text }];
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
                let mut found: Vec<Exposure> = parts.chunks_exact(2).map(pair).collect();
                found.extend(readable(&self.site.pool));
                found
            }
            Place::Metadata => {
                let xml = self.site.virsh(&["dumpxml", &name.to_string()]).await;
                let mut found = vec![Exposure {
                    place: "the domain's description".into(),
                    text: xml.unwrap_or_default().into_bytes(),
                }];
                for log in self.site.files(name.prefix(), "log") {
                    let text = std::fs::read(self.site.pool.join(&log)).unwrap_or_default();
                    found.push(Exposure { place: log, text });
                }
                found
            }
        })
    }

    async fn offer_job(&self, name: &RunnerName) -> Did {
        self.inside(name).offer_job().await;
        Ok(())
    }

    async fn job_fate(&self, name: &RunnerName) -> JobFate {
        self.inside(name).job_fate().await
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        // A domain whose power is cut is gone, which is to vanish; one that stands still is not.
        let stopped = self.site.virsh(&["suspend", &name.to_string()]).await;
        stopped.expect("a domain that can be stopped");
        Ok(())
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        self.site.vanish(&name.to_string()).await;
        Ok(())
    }

    async fn end_runner(&self, name: &RunnerName) -> Did {
        self.inside(name).end_runner().await;
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
        Err(Cannot("a host keeps the names of its domains unique"))
    }

    async fn make_stranger(&self, name: &str) -> Did {
        self.site.make_stranger(name).await;
        Ok(())
    }

    async fn take_stranger(&self, name: &str) -> bool {
        self.site.virsh(&["destroy", name]).await.is_ok()
    }

    fn leftover_kinds(&self) -> &'static [&'static str] {
        &["disks", "seeds", "consoles"]
    }

    async fn leave_leftover(&self, name: &RunnerName, kind: &'static str) -> Did {
        self.site.leave(&name.to_string(), kind).await;
        Ok(())
    }

    async fn set_cloud_init(&self, name: &RunnerName, status: CloudInitStatus) -> Did {
        let done = self.inside(name).set_cloud_init(status).await;
        assert!(done, "the guest {name} takes no commands");
        Ok(())
    }

    async fn put_file(&self, name: &RunnerName, file: ExchangeFile, what: Planted) -> Did {
        let done = self.inside(name).put(file, what).await;
        assert!(done, "the guest {name} takes no files");
        Ok(())
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        if fault == Fault::Throttle {
            return Err(Cannot(
                "a libvirt daemon lets calls wait, and refuses none for their rate",
            ));
        }
        if fault == Fault::ListStale {
            // What lists answer from now on.
            let socket = self.at(prefix, |proxy| proxy.socket.clone());
            let words = [
                "domstats",
                "--list-active",
                "--state",
                "--balloon",
                "--vcpu",
            ];
            self.site.virsh_at(&socket, &words).await.expect("a list");
        }
        self.at(prefix, |proxy| proxy.rules().plant(fault));
        Ok(())
    }

    async fn mend(&self, prefix: &NamePrefix) {
        self.at(prefix, |proxy| proxy.rules().mend());
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(200)
    }

    fn window(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// The files of runners in a folder that others than root may read.
fn readable(folder: &Path) -> Vec<Exposure> {
    use std::os::unix::fs::PermissionsExt;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)
        .expect("the pool's folder")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let is_open = metadata.permissions().mode() & 0o077 != 0;
        if is_open && !name.starts_with("image") && name.len() > Bench::STEM {
            let text = std::fs::read(entry.path()).unwrap_or_default();
            found.push(Exposure { place: name, text });
        }
    }
    found
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
