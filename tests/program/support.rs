//! What the whole-program tests share: a simulated GitHub, a folder, and the program in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runner_manager_github_sim::{
    JobOffer, ScaleSetConfig, Sim, SimConfig, WebhookConfig, write_runner_folder,
};
use serde_json::Value;

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
pub(crate) const REPO: &str = "octo/hello";
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_runner-manager");

/// Places run side by side, each with users of its own.
static FIRST_UID: AtomicU32 = AtomicU32::new(80_000);

/// A place to run the program in.
pub(crate) struct Place {
    pub(crate) sim: Sim,
    /// How often GitHub and the backends are asked, in milliseconds.
    pub(crate) poll: u32,
    /// Further sections.
    pub(crate) more: String,
    /// The keys of the pool, beside those that every test has.
    pub(crate) pool: String,
    /// The section of the backend.
    pub(crate) backend: String,
    first_uid: u32,
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) async fn new(pool: &str) -> Self {
        Self::with(pool, None, JobOffer::Assigned).await
    }

    /// A place whose GitHub sends webhooks, and offers the jobs of scale sets in this way.
    pub(crate) async fn with(pool: &str, webhook: Option<WebhookConfig>, offer: JobOffer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Runners are users of their own, and have to reach their folders below this one.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let config = SimConfig {
            repos: vec![REPO.into()],
            webhook,
            scale_sets: ScaleSetConfig {
                offer,
                ..ScaleSetConfig::default()
            },
            ..SimConfig::default()
        };
        let sim = Sim::start(config).await.unwrap();
        let runner = dir.path().join("runner");
        write_runner_folder(&runner, Path::new(PROGRAM)).unwrap();
        let place = Self {
            sim,
            poll: 100,
            more: String::new(),
            pool: pool.into(),
            backend: format!("runner_dir = {runner:?}"),
            first_uid: FIRST_UID.fetch_add(100, Ordering::Relaxed),
            dir,
        };
        fs::write(place.path("token"), place.sim.token()).unwrap();
        place.configure();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The section of one more pool for the same jobs.
    pub(crate) fn another_pool(&self, name: &str, keys: &str) -> String {
        let (dir, backend) = (self.dir.path().display(), &self.backend);
        let first_uid = FIRST_UID.fetch_add(100, Ordering::Relaxed);
        format!(
            r#"
[[pool]]
name = "{name}"
backend = "process"
github_path = "{REPO}"
labels = ["test"]
grace_seconds = 2
{keys}
[pool.process]
work_dir = "{dir}/work"
first_uid = {first_uid}
uid_count = 100
{backend}
"#
        )
    }

    /// Writes the configuration from what the fields hold now.
    pub(crate) fn configure(&self) {
        let dir = self.dir.path().display();
        let (url, pool, backend) = (self.sim.url(), &self.pool, &self.backend);
        let (first_uid, poll, more) = (self.first_uid, self.poll, &self.more);
        let text = format!(
            r#"
[manager]
state_dir = "{dir}/state"
poll_interval_ms = {poll}
cleanup_interval_seconds = 2
[github]
url = "{url}"
token_file = "{dir}/token"
{more}
[[pool]]
name = "test"
backend = "process"
github_path = "{REPO}"
labels = ["test"]
grace_seconds = 2
{pool}
[pool.process]
work_dir = "{dir}/work"
first_uid = {first_uid}
uid_count = 100
{backend}
"#
        );
        fs::write(self.path("new.toml"), text).unwrap();
        fs::rename(self.path("new.toml"), self.path("config.toml")).unwrap();
    }

    /// The manager, at work.
    pub(crate) fn start(&self) -> Manager {
        self.start_program(Path::new(PROGRAM))
    }

    /// Another build of the manager, at work.
    pub(crate) fn start_program(&self, program: &Path) -> Manager {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(self.path("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Manager(child)
    }

    /// One command about this configuration.
    pub(crate) fn command(&self, words: &[&str]) -> Output {
        Command::new(PROGRAM)
            .args(words)
            .env("RUNNER_MANAGER_CONFIG", self.path("config.toml"))
            .output()
            .unwrap()
    }

    /// What a command prints as JSON.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let output = self.command(&[words, &["--json"]].concat());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The end of the manager's log.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Polls until something holds; fails with the log after the deadline.
    pub(crate) async fn until(&self, what: &str, met: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !met(self) {
            assert!(
                Instant::now() < end,
                "not in time: {what}; left are {} folders, {} processes and {:?}\n{}",
                self.folders(),
                self.processes(),
                self.sim.runners(),
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The folders of runners.
    pub(crate) fn folders(&self) -> usize {
        let entries = fs::read_dir(self.path("work")).into_iter().flatten();
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let names = entries.filter_map(Result::ok).map(name);
        names.filter(|name| name.starts_with("test-")).count()
    }

    /// Processes that run from a runner's folder.
    pub(crate) fn processes(&self) -> usize {
        let work = self.path("work");
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let ours = |path: &Path| fs::read_link(path).is_ok_and(|target| target.starts_with(&work));
        entries
            .filter(|entry| ours(&entry.path().join("exe")) || ours(&entry.path().join("cwd")))
            .count()
    }

    /// Whether nothing of any runner is left, on either side.
    pub(crate) fn is_empty(&self) -> bool {
        self.sim.runners().is_empty() && self.folders() == 0 && self.processes() == 0
    }
}

/// A manager's process; killed with the test.
pub(crate) struct Manager(Child);

impl Manager {
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asks it to stop, and answers its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        self.0.wait().unwrap().code()
    }

    /// Waits for it to end by itself.
    pub(crate) fn wait(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
