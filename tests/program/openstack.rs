//! The program with a pool of servers: jobs of a simulated GitHub, run on machines of a real
//! OpenStack. `cargo xtask conformance openstack` runs it against the peer.

#![expect(clippy::expect_used, reason = "a test")]

#[path = "../conformance/openstack/cli.rs"]
mod cli;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runner_manager_github_sim::{Conclusion, JobSpec, Sim, SimConfig, write_runner_folder};
use serde_json::Value;

use cli::{listed, variable};

const REPO: &str = "octo/hello";
const JOBS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(900);

/// How many things of this test's the whole project holds, of each kind.
fn counts() -> Vec<usize> {
    let is_ours = |thing: &&Value| {
        let name = thing["Name"].as_str();
        name.is_some_and(|name| name.starts_with("e2e"))
    };
    let count = |kind| listed(kind).iter().filter(is_ours).count();
    ["server", "port", "keypair"].map(count).into()
}

/// The program; it is stopped with the test.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn configure(folder: &Path, sim: &Sim) -> PathBuf {
    fs::write(folder.join("token"), sim.token()).expect("a file");
    let (here, url, clouds) = (folder.display(), sim.url(), variable("OPENSTACK_CLOUDS"));
    let text = format!(
        r#"
[manager]
state_dir = "{here}/state"
poll_interval_ms = 1000
cleanup_interval_seconds = 10
[github]
url = "{url}"
token_file = "{here}/token"
[[pool]]
name = "e2e"
backend = "openstack"
github_path = "{REPO}"
labels = ["test"]
max = 5
idle_timeout_seconds = 5
grace_seconds = 60
[pool.openstack]
cloud = "demo"
clouds_file = {clouds:?}
state_dir = "{here}/openstack"
image = "sim"
flavor = "nano"
network = "private"
[pool.openstack.security_group]
ssh_cidr = "172.31.255.1/32"
[pool.openstack.boot]
update_packages = false
"#
    );
    let path = folder.join("config.toml");
    fs::write(&path, text).expect("a file");
    path
}

/// Lays out the stand-in runner where the peer's machines take it from.
fn lay_out_runner() {
    let folder = variable("OPENSTACK_STATE").join("runners/sim");
    let _ = fs::remove_dir_all(&folder);
    let program = folder.with_extension("program");
    fs::copy(env!("CARGO_BIN_EXE_runner-manager"), &program).expect("a copy");
    // Without what a debugger wants it is small enough to be copied to every machine.
    let strip = Command::new("strip")
        .arg(&program)
        .status()
        .expect("binutils are installed");
    assert!(strip.success());
    write_runner_folder(&folder, &program).expect("a folder");
}

/// Waits until something is met, and fails when it is not in time or the program has ended.
fn until(what: &str, manager: &mut Manager, folder: &Path, met: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !met() {
        let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
        let ended = manager.0.try_wait().expect("a child");
        assert!(
            ended.is_none(),
            "the program ended with {ended:?}\n{}",
            log()
        );
        assert!(Instant::now() < end, "not in time: {what}\n{}", log());
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_jobs_run_on_servers_and_nothing_is_left() {
    lay_out_runner();
    let folder = tempfile::tempdir().expect("a folder");
    let config = SimConfig {
        repos: vec![REPO.into()],
        ..SimConfig::default()
    };
    let sim = Sim::start(config).await.expect("a simulated GitHub");
    let path = configure(folder.path(), &sim);
    let jobs: Vec<u64> = (0..JOBS)
        .map(|_| sim.queue_job(JobSpec::new(REPO, &["test"])).expect("a job"))
        .collect();
    let log = fs::File::create(folder.path().join("log")).expect("a file");
    let mut program = Command::new(env!("CARGO_BIN_EXE_runner-manager"));
    program.args(["run", "--config"]).arg(&path);
    let start = Instant::now();
    let child = program
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    let mut manager = Manager(child.expect("the program starts"));
    let done = || {
        let done = |id: &u64| {
            sim.job(*id)
                .is_some_and(|job| job.conclusion == Some(Conclusion::Success))
        };
        jobs.iter().filter(|id| done(id)).count()
    };
    until("all jobs are done", &mut manager, folder.path(), || {
        done() == JOBS
    });
    println!(
        "openstack: {JOBS} jobs done in {:.0} s, at most 5 servers at once",
        start.elapsed().as_secs_f64()
    );
    until(
        "nothing is left on the cloud",
        &mut manager,
        folder.path(),
        || counts() == [0, 0, 0],
    );
    until(
        "nothing is left on GitHub",
        &mut manager,
        folder.path(),
        || sim.runners().is_empty(),
    );
    drop(manager);
    let keys = fs::read_dir(folder.path().join("openstack/keys"))
        .expect("a folder")
        .count();
    assert_eq!(keys, 0, "key files are left");
}
