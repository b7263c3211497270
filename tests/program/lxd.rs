//! The whole program with a pool of containers: jobs of a simulated GitHub run in real containers
//! of LXD or Incus, and what breaks is mended. `cargo xtask conformance lxd` runs this after the
//! suite, against the same peer.

#![expect(clippy::unwrap_used, reason = "a test")]

#[expect(dead_code, reason = "other tests of the program use the rest")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runner_manager_github_sim::{Conclusion, JobSpec, JobView};
use serde_json::Value;
use support::{Place, REPO};

const POOL: &str = "test";

/// The server, which one test at a time has for its instances.
static SERVER: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Proves where a job runs.
const SCRIPT: &str = r#"test "$(systemd-detect-virt --container)" = lxc && test "$(id -un)" = runner
    && case $(cat /etc/hostname) in test-*) ;; *) exit 1 ;; esac"#;

fn env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; run this by `cargo xtask conformance lxd`"))
}

/// Runs the server's own client.
fn client(words: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new(env("PEER_CLI")).args(words).output().unwrap();
    output.status.success().then_some(output.stdout)
}

/// What a list of the server's API holds.
fn listed(path: &str) -> BTreeSet<String> {
    let output = client(&["query", path]).unwrap_or_else(|| panic!("no {path}"));
    let listed: Vec<String> = serde_json::from_slice(&output).unwrap();
    listed.into_iter().collect()
}

/// Everything that a pool could leave on the server.
fn inventory() -> Vec<BTreeSet<String>> {
    [
        "instances",
        "images",
        "networks",
        "profiles",
        "storage-pools/plain/volumes/custom",
    ]
    .map(|kind| listed(&format!("/1.0/{kind}")))
    .into()
}

/// The section for the peer's socket.
fn by_socket() -> String {
    format!("socket = {:?}", env("PEER_SOCKET"))
}

fn configure(place: &Place, server: &str) {
    let (url, port) = (place.sim.url(), place.sim.url().rsplit(':').next().unwrap());
    let dir = place.path("").display().to_string();
    let dir = dir.trim_end_matches('/');
    // A container reaches the simulator on this machine's loopback through a device of its own.
    let text = format!(
        r#"
[manager]
state_dir = "{dir}/state"
poll_interval_ms = 500
cleanup_interval_seconds = 3
[github]
url = "{url}"
token_file = "{dir}/token"
[[pool]]
name = "{POOL}"
backend = "lxd"
github_path = "{REPO}"
labels = ["container"]
min_idle = 1
max = 3
grace_seconds = 20
[pool.lxd]
{server}
image = {{ alias = "runner" }}
volumes = [{{ pool = "plain", path = "/var/lib/docker", size_bytes = 67108864 }}]
[pool.lxd.devices.github]
type = "proxy"
bind = "instance"
listen = "tcp:127.0.0.1:{port}"
connect = "tcp:127.0.0.1:{port}"
[pool.lxd.boot]
user = "runner"
home = "/home/runner"
update_packages = false
"#
    );
    fs::write(place.path("config.toml"), text).unwrap();
}

fn runners(place: &Place, state: &str) -> BTreeSet<String> {
    let output = place.command(&["runners", "list", "--json"]);
    let runners: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let wanted = runners.iter().filter(|runner| runner["state"] == state);
    wanted
        .map(|runner| runner["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The classes of what failed.
fn failures(place: &Place) -> BTreeSet<String> {
    let output = place.command(&["failures", "list", "--json"]);
    let failures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let class = |failure: &Value| failure["class"].as_str().unwrap().to_owned();
    failures.iter().map(class).collect()
}

fn queue(place: &Place, jobs: usize) {
    for _ in 0..jobs {
        let mut spec = JobSpec::new(REPO, &["self-hosted", "container"]);
        spec.script = Some(SCRIPT.replace("\n", " "));
        place.sim.queue_job(spec).unwrap();
    }
}

fn all_succeeded(place: &Place) -> bool {
    let won = |job: &JobView| job.conclusion == Some(Conclusion::Success);
    place.sim.jobs().iter().all(won)
}

/// How long a container may take until its runner listens, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

async fn until(place: &Place, what: &str, met: impl Fn(&Place) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !met(place) {
        assert!(Instant::now() < end, "not in time: {what}\n{}", place.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for an idle runner that is none of these.
async fn another(place: &Place, what: &str, old: &BTreeSet<String>) -> BTreeSet<String> {
    until(place, what, |place| {
        let idle = runners(place, "idle");
        !idle.is_empty() && idle.is_disjoint(old)
    })
    .await;
    runners(place, "idle")
}

/// Ends the server as an upgrade would, instances going on, and starts it again.
fn restart_server() {
    let state = env("PEER_STATE");
    let known = fs::read_to_string(Path::new(&state).join("daemon.pid")).unwrap();
    let pid = known.split_whitespace().next().unwrap();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    while Path::new("/proc").join(pid).exists() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let kind = env("PEER_KIND");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let up = root.join("tests/peers").join(kind).join("up.sh");
    assert!(Command::new(up).status().unwrap().success(), "no restart");
}

/// An operator's command on a runner's instance, and a shell that is typed into.
fn opens_a_shell(place: &Place, name: &str) {
    let script = "cat /etc/hostname; echo oops >&2; exit 7";
    let ran = place.command(&["runners", "shell", name, "--", "sh", "-c", script]);
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(7), "{errors}");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), format!("{name}\n"));
    assert!(errors.contains("oops"), "{errors}");

    let line = format!("'{}' runners shell {name}", support::PROGRAM);
    let mut child = Command::new("timeout")
        .args(["60", "script", "-q", "-e", "-c", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .env("RUNNER_MANAGER_CONFIG", place.path("config.toml"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It stays open: its end would be one of the shell's input, before the shell is there.
    let mut keyboard = child.stdin.take().unwrap();
    let typed = b"test -t 0 && echo \"on-$(cat /etc/hostname)-$((40 + 2))\"\nexit 7\n";
    keyboard.write_all(typed).unwrap();
    let mut shown = String::new();
    let mut screen = child.stdout.take().unwrap();
    screen.read_to_string(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7), "{shown}");
    assert!(shown.contains(&format!("on-{name}-42")), "{shown}");

    let unknown = format!("{POOL}-000000000000");
    let unknown = place.command(&["runners", "shell", &unknown, "--", "true"]);
    assert_eq!(unknown.status.code(), Some(3), "no such instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_in_containers_and_what_breaks_is_mended() {
    let _alone = SERVER.lock().await;
    let before = inventory();
    let place = Place::new("").await;
    let limits = "limits = { memory_bytes = 1073741824, processes = 2000 }";
    configure(&place, &format!("{}\n{limits}", by_socket()));
    let manager = place.start();
    let idle = another(&place, "the first is idle", &BTreeSet::new()).await;
    for name in &idle {
        opens_a_shell(&place, name);
    }

    queue(&place, 4);
    until(&place, "four jobs are done", all_succeeded).await;

    let idle = another(&place, "one is idle again", &idle).await;
    let flushed = place.json(&["runners", "flush"]);
    let removed: BTreeSet<String> = serde_json::from_value(flushed["removed"].clone()).unwrap();
    assert!(removed.is_superset(&idle), "{removed:?} {idle:?}");

    let idle = another(&place, "the flushed one is replaced", &removed).await;
    for name in &idle {
        client(&["delete", "--force", name]).unwrap();
    }
    let idle = another(&place, "the deleted one is replaced", &idle).await;
    for name in &idle {
        client(&["stop", "--force", name]).unwrap();
    }
    let idle = another(&place, "the stopped one is replaced", &idle).await;
    until(&place, "the stopped one is gone", |_| {
        listed("/1.0/instances").len() <= 3
    })
    .await;

    tokio::task::spawn_blocking(restart_server).await.unwrap();
    queue(&place, 1);
    until(&place, "a job is done after the restart", all_succeeded).await;
    drop(idle);

    assert_eq!(manager.terminate(), Some(0));
    let made = place.sim.registrations_created();
    println!(
        "program on {}: {made} registrations, {} jobs",
        env("PEER_KIND"),
        place.sim.jobs().len()
    );
    // What still waits for a job is the pool's; a flush of a pool without minimum takes it.
    let config = fs::read_to_string(place.path("config.toml")).unwrap();
    fs::write(
        place.path("config.toml"),
        config.replace("min_idle = 1", "min_idle = 0\nidle_timeout_seconds = 1"),
    )
    .unwrap();
    let manager = place.start();
    until(&place, "nothing is left", |_| inventory() == before).await;
    until(&place, "no registration is left", |place| {
        place.sim.runners().is_empty()
    })
    .await;
    assert_eq!(manager.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_start_is_a_failed_launch() {
    let _alone = SERVER.lock().await;
    let place = Place::new("").await;
    let no_init = r#"config = { "raw.lxc" = "lxc.init.cmd = /nowhere" }"#;
    configure(&place, &format!("{}\n{no_init}", by_socket()));
    let manager = place.start();
    until(&place, "the failure is recorded", |place| {
        !failures(place).is_empty()
    })
    .await;
    assert!(!failures(&place).contains("boot"), "{:?}", failures(&place));
    assert_eq!(manager.terminate(), Some(0));
}

/// What `check` says of a server.
async fn checked(server: &str) -> (bool, String) {
    let place = Place::new("").await;
    configure(&place, server);
    let output = place.command(&["check"]);
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The section for HTTPS with a client's certificate and a server's.
fn by_tls(client: &str, server: &str) -> String {
    let (url, state) = (env("PEER_URL"), env("PEER_STATE"));
    format!(
        "tls = {{ url = {url:?}, client_certificate = \"{state}/{client}.crt\", \
         client_key = \"{state}/{client}.key\", server_certificate = {server:?} }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn https_takes_the_known_server_and_client_and_no_others() {
    let known = format!("{}/server.crt", env("PEER_DATA"));
    let (well, said) = checked(&by_tls("client", &known)).await;
    assert!(well, "{said}");
    let (well, said) = checked(&by_tls("stranger", &known)).await;
    assert!(
        !well && said.contains("does not trust this client"),
        "{said}"
    );
    let other = format!("{}/stranger.crt", env("PEER_STATE"));
    let (well, said) = checked(&by_tls("client", &other)).await;
    assert!(!well && said.contains("cannot be reached"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_cannot_do_is_refused_before_a_launch() {
    let (well, said) = checked(&by_socket()).await;
    assert!(well, "{said}");
    for (keys, words) in [
        ("project = \"nowhere\"", "names the project `nowhere`"),
        ("profiles = [\"nobody\"]", "names the profile `nobody`"),
        ("storage_pool = \"dry\"", "names the storage pool `dry`"),
        ("network = \"none0\"", "names the network `none0`"),
        ("target = \"here\"", "is for clusters"),
    ] {
        let (well, said) = checked(&format!("{}\n{keys}", by_socket())).await;
        assert!(!well && said.contains(words), "{keys}: {said}");
    }
    // Where the server can host virtual machines, the image is what does not fit.
    let machine = format!("{}\ninstance_type = \"virtual-machine\"", by_socket());
    let (well, said) = checked(&machine).await;
    let words = [
        "the server hosts no virtual-machines: ",
        "is for a container",
    ];
    assert!(
        !well && words.iter().any(|words| said.contains(words)),
        "{said}"
    );
    println!("virtual machines: {said}");
}
