//! The harness of the process backend.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_backend_process::BACKEND;
use runner_manager_conformance::{
    Bench, Cannot, Counts, Did, Exposure, Fault, Harness, JobFate, Place, Planted, Received, Seen,
};
use runner_manager_core::{
    BackendContext, CloudInitStatus, CloudRunnerState, Connected, CreateRunner, ExchangeFile,
    GitHubPath, GitHubRunnerConfig, InstanceId, Labels, NamePrefix, Result, RunnerCredential,
    RunnerName, Secret, SupportServiceConfig,
};
use serde_json::json;

use crate::faults::Undo;
use crate::lists::Lists;
use crate::site::{Site, USERS};
use crate::{exposed, faults, files, is_root, jobs, states};

struct World {
    lists: Lists,
    sites: BTreeMap<String, Site>,
    /// What ends the faults of each prefix.
    faults: BTreeMap<NamePrefix, Vec<Undo>>,
    /// The locks that keep runners in a state, by prefix.
    held: BTreeMap<NamePrefix, Vec<File>>,
    /// Where the worker of each runner says that it has begun.
    begun: BTreeMap<RunnerName, File>,
}

/// One place for each case, below one folder.
pub(crate) struct ProcessHarness {
    world: Mutex<World>,
    base: tempfile::TempDir,
}

impl ProcessHarness {
    pub(crate) fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            world: Mutex::new(World {
                lists: Lists::new(),
                sites: BTreeMap::new(),
                faults: BTreeMap::new(),
                held: BTreeMap::new(),
                begun: BTreeMap::new(),
            }),
            base,
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A case that failed in here has left nothing half done that another would see.
        self.world
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Does something in the place of a prefix.
    fn at<T>(&self, prefix: &NamePrefix, act: impl FnOnce(&mut Site) -> T) -> T {
        let stem: String = prefix.as_str().chars().take(Bench::STEM).collect();
        let World { sites, lists, .. } = &mut *self.world();
        let index = u32::try_from(sites.len()).unwrap();
        let make = || Site::new(self.base.path().join(&stem), index, lists);
        act(sites.entry(stem.clone()).or_insert_with(make))
    }
}

#[async_trait]
impl Harness for ProcessHarness {
    fn scheme(&self) -> &'static str {
        "process"
    }

    async fn manager(&self, context: BackendContext) -> Result<Connected> {
        let section = self.at(&context.prefix, |site| {
            let mut section = json!({
                "work_dir": site.work_dir(),
                "runner_dir": site.runner_dir(&context.prefix),
                "min_free_bytes": 0,
                "max_disk_bytes": 64 << 20,
            });
            if is_root() {
                section["first_uid"] = site.first_uid.into();
                section["uid_count"] = USERS.into();
            }
            section
        });
        (BACKEND.connect)(context, section).await
    }

    fn request(&self, id: InstanceId) -> CreateRunner {
        CreateRunner {
            id,
            credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
            github: GitHubRunnerConfig {
                github_path: GitHubPath::parse("octo", None).unwrap(),
                labels: Labels::parse(["linux", "x64"]).unwrap(),
            },
            support: SupportServiceConfig::default(),
        }
    }

    async fn reach(&self, _: &NamePrefix, _: u16) -> Seen<String> {
        Err(Cannot("a process claims nothing"))
    }

    async fn count(&self, prefix: &NamePrefix) -> Counts {
        self.at(prefix, |site| site.count(prefix))
    }

    fn list_calls(&self, prefix: &NamePrefix) -> Seen<usize> {
        let folder = self.at(prefix, |site| site.lists);
        Ok(self.world().lists.of(folder))
    }

    fn requests(&self, _: &NamePrefix) -> Seen<usize> {
        Err(Cannot(
            "the kernel is called directly: no request can be counted",
        ))
    }

    fn page_size(&self) -> Option<usize> {
        None
    }

    async fn received(&self, name: &RunnerName) -> Seen<Received> {
        let seen = self.at(name.prefix(), |site| files::received(site, name));
        seen.ok_or(Cannot("the runner was not configured with a token"))
    }

    async fn exposed(&self, name: &RunnerName, place: Place) -> Seen<Vec<Exposure>> {
        Ok(self.at(name.prefix(), |site| exposed::exposed(site, name, place)))
    }

    async fn offer_job(&self, name: &RunnerName) -> Did {
        let home = self.at(name.prefix(), |site| site.folder(name).join("home"));
        if let Some(begun) = jobs::prepare(&home) {
            self.world().begun.insert(name.clone(), begun);
        }
        // A runner that starts has no pipe yet.
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while !jobs::offer(&home) && home.exists() && std::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn job_fate(&self, name: &RunnerName) -> JobFate {
        let Some(mut begun) = self.world().begun.remove(name) else {
            return JobFate::NotBegun;
        };
        let fate = self.at(name.prefix(), |site| jobs::fate(site, name, &mut begun));
        self.world().begun.insert(name.clone(), begun);
        fate
    }

    async fn stop(&self, name: &RunnerName) -> Did {
        self.at(name.prefix(), |site| site.kill(name));
        Ok(())
    }

    async fn vanish(&self, name: &RunnerName) -> Did {
        self.at(name.prefix(), |site| {
            site.kill(name);
            fs::remove_dir_all(site.folder(name)).unwrap();
        });
        Ok(())
    }

    async fn end_runner(&self, name: &RunnerName) -> Did {
        self.at(name.prefix(), |site| states::end_runner(site, name));
        Ok(())
    }

    fn native_states(&self) -> Vec<(&'static str, CloudRunnerState)> {
        states::STATES.to_vec()
    }

    async fn force_state(&self, name: &RunnerName, native: &'static str) -> Did {
        let held = self.at(name.prefix(), |site| states::force(site, name, native));
        let mut world = self.world();
        world
            .held
            .entry(name.prefix().clone())
            .or_default()
            .extend(held);
        Ok(())
    }

    fn stuck_state(&self) -> Seen<&'static str> {
        Err(Cannot(
            "a launch holds a lock that the kernel frees when it ends: none is stuck",
        ))
    }

    async fn make_twin(&self, _: &RunnerName) -> Did {
        Err(Cannot("an instance is a folder, whose name is unique"))
    }

    async fn make_stranger(&self, name: &str) -> Did {
        if name.parse::<RunnerName>().is_ok() {
            return Err(Cannot(
                "the work folder is the manager's own, and so is what is named like a runner in it",
            ));
        }
        let prefix = NamePrefix::new(&name[..Bench::STEM]).unwrap();
        self.at(&prefix, |site| {
            fs::create_dir(site.work_dir().join(name)).unwrap();
        });
        Ok(())
    }

    async fn take_stranger(&self, name: &str) -> bool {
        let prefix = NamePrefix::new(&name[..Bench::STEM]).unwrap();
        self.at(&prefix, |site| {
            fs::remove_dir(site.work_dir().join(name)).is_ok()
        })
    }

    fn leftover_kinds(&self) -> &'static [&'static str] {
        if is_root() {
            &["folders", "locks", "cgroups", "users"]
        } else {
            &["folders", "locks"]
        }
    }

    async fn leave_leftover(&self, name: &RunnerName, kind: &'static str) -> Did {
        self.at(name.prefix(), |site| {
            faults::leave(site, &name.to_string(), kind)
        })
    }

    async fn set_cloud_init(&self, _: &RunnerName, _: CloudInitStatus) -> Did {
        Err(Cannot("the runner is started directly"))
    }

    async fn put_file(&self, name: &RunnerName, file: ExchangeFile, what: Planted) -> Did {
        let folder = self.at(name.prefix(), |site| site.folder(name));
        files::put(&folder, file, what);
        Ok(())
    }

    async fn fail(&self, prefix: &NamePrefix, fault: Fault) -> Did {
        let undo = self.at(prefix, |site| faults::plant(site, prefix, fault))?;
        let mut world = self.world();
        world.faults.entry(prefix.clone()).or_default().push(undo);
        Ok(())
    }

    async fn mend(&self, prefix: &NamePrefix) {
        let undos = {
            let mut world = self.world();
            world.held.remove(prefix);
            world.faults.remove(prefix).unwrap_or_default()
        };
        undos.into_iter().rev().for_each(Undo::undo);
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn window(&self) -> Duration {
        Duration::from_secs(1)
    }
}
