//! The processes: GitHub, and the manager with the backend of the example `instant`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::{LABEL, PATIENCE, REPO, SECRET};

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Whole {
    /// The simulated GitHub's address.
    pub(crate) github: String,
    /// What its calls are allowed by.
    pub(crate) token: String,
    /// Where the manager takes webhooks.
    pub(crate) receiver: SocketAddr,
    manager: Process,
    _github: Process,
    dir: tempfile::TempDir,
}

/// A program that [`build`] built, at a path below the folder of the profile.
fn program(path: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    profile.join(path)
}

/// Builds the programs that the bench starts: cargo builds neither examples nor the binaries of
/// other packages for a bench.
pub(crate) fn build() {
    let target = program("..");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .args(["--package", "runner-manager", "--example", "instant"])
        .args(["--package", "runner-manager-github-sim"])
        .args(["--bin", "github-sim", "--target-dir"])
        .arg(target)
        .status()
        .unwrap();
    assert!(built.success(), "the programs of the bench do not build");
}

impl Whole {
    /// Starts both; a pool of so many runners at most follows the webhooks.
    pub(crate) fn start(max: usize, runs_jobs: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = held.local_addr().unwrap();
        let mut github = Process(
            Command::new(program("github-sim"))
                .args(["--webhook", &format!("http://{receiver}/webhook")])
                .env("GITHUB_SIM_WEBHOOK_SECRET", SECRET)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let said = BufReader::new(github.0.stdout.take().unwrap());
        let mut words = said.lines().map(|line| {
            let line = line.unwrap();
            line.split_once(' ').unwrap().1.to_owned()
        });
        let (url, token) = (words.next().unwrap(), words.next().unwrap());
        fs::write(path("token"), &token).unwrap();
        fs::write(path("secret"), SECRET).unwrap();
        fs::write(path("launches"), "").unwrap();
        // In a folder of its own: the manager watches it, and would wake for every launch.
        let config = path("etc/config.toml");
        fs::create_dir(path("etc")).unwrap();
        fs::write(
            &config,
            configuration(dir.path(), &url, receiver, max, runs_jobs),
        )
        .unwrap();
        // Nobody else was given the port meanwhile.
        drop(held);
        let manager = Process(
            Command::new(program("examples/instant"))
                .arg("run")
                .env("RUNNER_MANAGER_CONFIG", &config)
                .env("RUNNER_MANAGER_LOG", "warn")
                .spawn()
                .unwrap(),
        );
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(receiver).is_err() {
            assert!(Instant::now() < end, "the manager does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            github: url,
            token,
            receiver,
            manager,
            _github: github,
            dir,
        }
    }

    /// When each launch was asked of the backend.
    pub(crate) fn launches(&self) -> Vec<SystemTime> {
        let text = fs::read_to_string(self.dir.path().join("launches")).unwrap();
        // The last line may not be whole yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let at = |line: &str| UNIX_EPOCH + Duration::from_nanos(line.parse().unwrap());
        whole.lines().map(at).collect()
    }

    /// How many jobs the manager knows, of so many at most.
    pub(crate) fn stored(&self, limit: u64) -> usize {
        let listed = Command::new(program("examples/instant"))
            .args(["jobs", "list", "--json", "--limit", &limit.to_string()])
            .env(
                "RUNNER_MANAGER_CONFIG",
                self.dir.path().join("etc/config.toml"),
            )
            .output()
            .unwrap();
        let jobs: Value = serde_json::from_slice(&listed.stdout).unwrap();
        jobs.as_array().unwrap().len()
    }

    /// The most memory that the manager had, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        crate::figures::peak_memory(&self.manager.0.id().to_string())
    }
}

fn configuration(
    dir: &Path,
    github: &str,
    receiver: SocketAddr,
    max: usize,
    runs_jobs: bool,
) -> String {
    let dir = dir.display();
    format!(
        r#"
[manager]
state_dir = "{dir}/state"
[github]
url = "{github}"
token_file = "{dir}/token"
[webhook]
listen = "{receiver}"
secret_file = "{dir}/secret"
[[pool]]
name = "{LABEL}"
backend = "instant"
github_path = "{REPO}"
labels = ["{LABEL}"]
max = {max}
boot_deadline_seconds = 3600
idle_timeout_seconds = 1
grace_seconds = 3600
[pool.instant]
launches = "{dir}/launches"
runs_jobs = {runs_jobs}
"#
    )
}
