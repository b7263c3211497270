//! A cloud whose instances are Debian root file systems in namespaces of their own, booted by
//! the real cloud-init.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_manager_core::{
    BootConfig, Bootstrap, Capability, Cloud, CloudInstance, CloudRunnerState, Command,
    CommandOutput, Error, ErrorKind, Exec, ExecGuest, Guest, LaunchSpec, Leftover, NamePrefix,
    Result, RunnerName, Support,
};

use crate::machine::Machine;

/// How long one command on an instance may take.
const COMMAND: Duration = Duration::from_secs(60);

/// What is kept of every instance, also when it is gone.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    /// Its user-data, as the cloud has it.
    pub(crate) user_data: String,
    /// The files that its end left, by their path.
    pub(crate) files: BTreeMap<String, String>,
}

/// By runner name.
pub(crate) type Archive = Arc<Mutex<BTreeMap<String, Kept>>>;

pub(crate) struct RootCloud {
    /// The unpacked root file system.
    pub(crate) lower: PathBuf,
    /// Where instances have their own files.
    pub(crate) work: PathBuf,
    pub(crate) boot: BootConfig,
    pub(crate) machines: Mutex<BTreeMap<RunnerName, (Timestamp, Arc<Machine>)>>,
    pub(crate) archive: Archive,
    pub(crate) capability: Capability,
}

pub(crate) fn capability() -> Capability {
    Capability {
        jit_config: Support::Native,
        registration_token: Support::Native,
        claim: Support::Native,
        guest: Support::Native,
        cloud_init: Support::Native,
        idle_stop: Support::Native,
        shell: Support::Native,
        console: Support::Native,
        resource_limits: Support::Unsupported("a test has none"),
        support_services: Support::Native,
        outlives_manager: Support::Unsupported("an instance ends with its test"),
        max_instances: None,
        max_user_data_bytes: Some(64 * 1024),
    }
}

impl RootCloud {
    fn show(&self, name: &RunnerName) -> Option<CloudInstance> {
        let machines = self.machines.lock().expect("machines");
        let (created_at, machine) = machines.get(name)?;
        let state = if machine.is_running() {
            CloudRunnerState::Active
        } else {
            CloudRunnerState::Stopped
        };
        Some(CloudInstance {
            name: name.clone(),
            native_id: name.to_string(),
            state,
            created_at: *created_at,
            addresses: vec!["127.0.0.1".parse().expect("an address")],
        })
    }

    fn machine(&self, name: &RunnerName) -> Result<Arc<Machine>> {
        let machines = self.machines.lock().expect("machines");
        let found = machines.get(name).map(|(_, machine)| machine.clone());
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such machine"))
    }
}

#[async_trait]
impl Cloud for RootCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        let bootstrap = Bootstrap::new(spec, &self.boot)?;
        let data = bootstrap.user_data(self.capability.max_user_data_bytes)?;
        let text = String::from_utf8(data.expose().to_vec()).expect("a text");
        let name = spec.name.clone();
        let kept = Kept {
            user_data: text.clone(),
            ..Kept::default()
        };
        self.archive
            .lock()
            .expect("archive")
            .insert(name.to_string(), kept);
        let (lower, work) = (self.lower.clone(), self.work.join(name.to_string()));
        let id = name.to_string();
        let machine = tokio::task::spawn_blocking(move || Machine::boot(&lower, &work, &id, &text));
        let machine = Arc::new(machine.await.expect("a machine"));
        let entry = (Timestamp::now(), machine);
        self.machines
            .lock()
            .expect("machines")
            .insert(name.clone(), entry);
        Ok(self.show(&name).expect("it is there"))
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        Ok(self.show(name))
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        let names: Vec<RunnerName> = self
            .machines
            .lock()
            .expect("machines")
            .keys()
            .cloned()
            .collect();
        let own = names.iter().filter(|name| name.prefix() == prefix);
        Ok(own.filter_map(|name| self.show(name)).collect())
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        let removed = self
            .machines
            .lock()
            .expect("machines")
            .remove(&instance.name);
        if let Some((_, machine)) = removed {
            let files = tokio::task::spawn_blocking(move || machine.end()).await;
            let mut archive = self.archive.lock().expect("archive");
            let kept = archive.get_mut(&instance.name.to_string()).expect("kept");
            kept.files = files.expect("an end");
        }
        Ok(())
    }

    async fn leftovers(&self, _prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        Ok(Vec::new())
    }

    async fn remove_leftover(&self, _leftover: &Leftover) -> Result<()> {
        Ok(())
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        let exec = Inside(self.machine(&instance.name)?);
        Ok(Box::new(ExecGuest::new(
            exec,
            self.boot.exchange_folder(),
            COMMAND,
        )))
    }

    async fn console(&self, instance: &CloudInstance) -> Result<Option<String>> {
        Ok(Some(self.machine(&instance.name)?.console()))
    }
}

struct Inside(Arc<Machine>);

#[async_trait]
impl Exec for Inside {
    async fn exec(&self, command: Command) -> Result<CommandOutput> {
        let words: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        let mut process = tokio::process::Command::from(self.0.enter(&words));
        process.kill_on_drop(true);
        let output = tokio::time::timeout(command.timeout, process.output()).await;
        let output = output
            .map_err(|_| Error::new(ErrorKind::TimedOut, "no end in time"))?
            .map_err(|e| Error::new(ErrorKind::Unreachable, "cannot enter").with_source(e))?;
        Ok(CommandOutput {
            status: output.status.code(),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}

/// Runs a program to its end, and gives what it prints.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Process::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Unpacks the root file system once for each of its contents.
pub(crate) fn unpack(archive: &Path) -> PathBuf {
    let lower = archive.with_extension("dir");
    if !lower.exists() {
        let new = archive.with_extension("new");
        let (from, to) = (archive.display().to_string(), new.display().to_string());
        std::fs::create_dir_all(&new).expect("a folder");
        run("tar", &["-xf", &from, "-C", &to]);
        std::fs::rename(&new, &lower).expect("the folder's place");
    }
    lower
}
