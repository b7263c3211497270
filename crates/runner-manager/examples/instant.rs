//! The program with one more backend, of somebody else: `instant`, whose instances are there at
//! once and are tasks of the manager. `cargo bench --bench whole` measures the manager by it.
//!
//! ```toml
//! [[pool]]
//! backend = "instant"
//! [pool.instant]
//! launches = "/var/tmp/launches"
//! ```

#![expect(clippy::unwrap_used, reason = "an example for tests")]

#[path = "../../server/tests/calls/no_machine.rs"]
mod no_machine;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use jiff::Timestamp;
use runner_manager::Backend;
use runner_manager_core::{
    Capability, Cloud, CloudInstance, CloudRunnerState, Connected, Error, ErrorKind, Guest,
    HostedRunners, LaunchSpec, Leftover, NamePrefix, Result, RunnerCredential, RunnerName,
    parse_section,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::AbortHandle;

static BACKEND: Backend = Backend {
    scheme: "instant",
    summary: "a task of the manager",
    connect: |context, section| {
        Box::pin(async move {
            let cloud = InstantCloud::new(&parse_section(section)?)?;
            let runners = HostedRunners::new(cloud, context.prefix, context.timings, context.clock);
            Ok(Arc::new(runners) as Connected)
        })
    },
    schema: || schemars::schema_for!(Section),
};

fn main() -> ExitCode {
    runner_manager::main(&[&BACKEND])
}

/// The section `[pool.instant]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Section {
    /// The file that gets a line for each launch: when it was asked for, in nanoseconds since 1970.
    launches: PathBuf,
    /// Whether instances run jobs; without it nothing comes online.
    #[serde(default)]
    runs_jobs: bool,
}

struct Instance {
    shown: CloudInstance,
    runner: Option<AbortHandle>,
}

struct InstantCloud {
    capability: Capability,
    launches: Mutex<File>,
    client: Option<reqwest::Client>,
    live: Arc<Mutex<BTreeMap<RunnerName, Instance>>>,
}

impl InstantCloud {
    fn new(section: &Section) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&section.launches);
        let file = file.map_err(|error| {
            Error::new(ErrorKind::InvalidConfig, "cannot open the file of launches")
                .with_context("key", "launches")
                .with_source(error)
        })?;
        Ok(Self {
            capability: no_machine::capability(),
            launches: Mutex::new(file),
            client: section.runs_jobs.then(reqwest::Client::new),
            live: Arc::default(),
        })
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<RunnerName, Instance>> {
        self.live.lock().unwrap()
    }

    /// Begins to run a job.
    fn runner(&self, spec: &LaunchSpec) -> Option<AbortHandle> {
        let RunnerCredential::JitConfig(config) = &spec.credential else {
            return None;
        };
        let client = self.client.clone()?;
        let (config, name) = (config.expose().to_owned(), spec.name.clone());
        let live = self.live.clone();
        let task = tokio::spawn(async move {
            no_machine::listen(client, config).await;
            live.lock().unwrap().remove(&name);
        });
        Some(task.abort_handle())
    }
}

#[async_trait]
impl Cloud for InstantCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        if let Some(there) = self.live().get(&spec.name) {
            return Ok(there.shown.clone());
        }
        writeln!(self.launches.lock().unwrap(), "{}", now.as_nanos()).unwrap();
        let shown = CloudInstance {
            name: spec.name.clone(),
            native_id: spec.name.to_string(),
            state: CloudRunnerState::Active,
            created_at: Timestamp::now(),
            addresses: Vec::new(),
        };
        // Under the lock, so that the task finds what it removes.
        let mut live = self.live();
        let runner = self.runner(spec);
        let instance = Instance {
            shown: shown.clone(),
            runner,
        };
        live.insert(spec.name.clone(), instance);
        Ok(shown)
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        Ok(self.live().get(name).map(|instance| instance.shown.clone()))
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        let live = self.live();
        let shown = live.values().map(|instance| &instance.shown);
        Ok(shown
            .filter(|shown| shown.name.prefix() == prefix)
            .cloned()
            .collect())
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        let ended = self.live().remove(&instance.name);
        if let Some(runner) = ended.and_then(|ended| ended.runner) {
            runner.abort();
        }
        Ok(())
    }

    async fn leftovers(&self, _: &NamePrefix) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }

    async fn remove_leftover(&self, _: &Leftover) -> Result<()> {
        Ok(())
    }

    async fn guest(&self, _: &CloudInstance) -> Result<Box<dyn Guest>> {
        Err(Error::new(ErrorKind::Unsupported, "there is no machine"))
    }

    async fn console(&self, _: &CloudInstance) -> Result<Option<String>> {
        Ok(None)
    }
}
