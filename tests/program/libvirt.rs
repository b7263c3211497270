//! The whole program with a pool of virtual machines: jobs of a simulated GitHub run in real
//! domains of libvirt, and what breaks is mended. `cargo xtask conformance libvirt` runs this
//! after the suite, against the same peer.

#![expect(clippy::unwrap_used, reason = "a test")]

#[expect(dead_code, reason = "other tests of the program use the rest")]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_manager_backend_libvirt::BACKEND;
use runner_manager_core::{
    BackendContext, Budgets, CloudRunnerState, Connected, CreateRunner, GitHubPath,
    GitHubRunnerConfig, InstanceId, Labels, NamePrefix, RemoveToken, RunnerCredential, Secret,
    SupportServiceConfig, SystemClock, Timings,
};
use runner_manager_github_sim::{Conclusion, JobSpec, JobView};
use serde_json::{Value, json};
use support::{Place, REPO};

/// Proves where a job runs.
const SCRIPT: &str = "grep -q QEMU /sys/class/dmi/id/sys_vendor && test \"$(id -un)\" = ubuntu \
    && case $(hostname) in test-*) ;; *) exit 1 ;; esac";

/// How long a guest may take until its runner listens, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set; run this by `cargo xtask conformance libvirt`")
    })
}

fn uri(host: char) -> String {
    format!(
        "qemu+unix:///system?socket={}",
        env(&format!("LIBVIRT_SOCKET_{host}"))
    )
}

fn virsh(host: char, words: &[&str]) -> Option<String> {
    let mut virsh = Command::new(env("LIBVIRT_VIRSH"));
    virsh.args(["--quiet", "--connect", &uri(host)]).args(words);
    let output = virsh.output().unwrap();
    let text = || String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(text)
}

/// The hosts, which one test at a time has for itself.
static HOSTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The domains of a host, and the files in its pool.
fn inventory(host: char) -> (BTreeSet<String>, BTreeSet<String>) {
    let domains = virsh(host, &["list", "--all", "--name"]).unwrap();
    let domains = domains.split_whitespace().map(str::to_owned).collect();
    let files = fs::read_dir(env(&format!("LIBVIRT_POOL_{host}"))).unwrap();
    let files = files
        .flatten()
        .map(|f| f.file_name().into_string().unwrap());
    (domains, files.collect())
}

fn is_bare(host: char) -> bool {
    let (domains, files) = inventory(host);
    domains.is_empty() && files == BTreeSet::from(["image.qcow2".to_owned()])
}

/// The kernel's command line, with the port of the simulated GitHub.
fn command_line(relay: &str) -> String {
    format!(
        "console=ttyS0 panic=-1 loglevel=4 nokaslr mitigations=off no_timer_check \
         guest.init=/sbin/guest-init guest.relay={relay}"
    )
}

fn configure(place: &Place, idle: &str) {
    let url = place.sim.url();
    let command_line = command_line(url.rsplit(':').next().unwrap());
    let dir = place.path("state");
    let dir = dir.parent().unwrap().display();
    let (host, kernel, initrd) = (uri('A'), env("LIBVIRT_KERNEL"), env("LIBVIRT_INITRD"));
    let text = format!(
        r#"
[manager]
state_dir = "{dir}/state"
poll_interval_ms = 1000
cleanup_interval_seconds = 3
[github]
url = "{url}"
token_file = "{dir}/token"
[[pool]]
name = "test"
backend = "libvirt"
github_path = "{REPO}"
labels = ["vm"]
max = 2
grace_seconds = 20
{idle}
[pool.libvirt]
storage_pool = "runners"
image = "image.qcow2"
vcpus = 1
memory_mib = 256
cpu_overcommit = 100.0
network = "user"
[[pool.libvirt.hosts]]
uri = "{host}"
reserved_memory_mib = 0
[pool.libvirt.kernel]
path = "{kernel}"
initrd = "{initrd}"
command_line = "{command_line}"
[pool.libvirt.boot]
update_packages = false
"#
    );
    fs::write(place.path("config.toml"), text).unwrap();
}

fn idle(place: &Place) -> BTreeSet<String> {
    let output = place.command(&["runners", "list", "--json"]);
    let runners: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let idle = runners.iter().filter(|runner| runner["state"] == "idle");
    idle.map(|runner| runner["name"].as_str().unwrap().to_owned())
        .collect()
}

fn queue(place: &Place, jobs: usize) {
    for _ in 0..jobs {
        let mut spec = JobSpec::new(REPO, &["self-hosted", "vm"]);
        spec.script = Some(SCRIPT.into());
        place.sim.queue_job(spec).unwrap();
    }
}

fn all_succeeded(place: &Place) -> bool {
    let won = |job: &JobView| job.conclusion == Some(Conclusion::Success);
    place.sim.jobs().iter().all(won)
}

async fn until(place: &Place, what: &str, met: impl Fn(&Place) -> bool) {
    let end = Instant::now() + PATIENCE;
    while !met(place) {
        assert!(Instant::now() < end, "not in time: {what}\n{}", place.log());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    println!("{what}");
}

/// Waits for an idle runner that is none of these.
async fn another(place: &Place, what: &str, old: &BTreeSet<String>) -> BTreeSet<String> {
    until(place, what, |place| {
        let idle = idle(place);
        !idle.is_empty() && idle.is_disjoint(old)
    })
    .await;
    idle(place)
}

/// Ends the daemon of a host, and starts it again after so many seconds.
fn restart(host: &str, seconds: &str) {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/libvirt");
    let mut restart = Command::new(scripts.join("restart.sh"));
    assert!(restart.args([host, seconds]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_in_virtual_machines_and_what_breaks_is_mended() {
    let _alone = HOSTS.lock().await;
    assert!(is_bare('A'), "{:?}", inventory('A'));
    let place = Place::new("").await;
    configure(&place, "min_idle = 1");
    let manager = place.start();
    let first = another(&place, "the first is idle", &BTreeSet::new()).await;

    queue(&place, 2);
    until(&place, "two jobs are done", all_succeeded).await;

    let ready = another(&place, "one is idle again", &first).await;
    let flushed = place.json(&["runners", "flush"]);
    let removed: BTreeSet<String> = serde_json::from_value(flushed["removed"].clone()).unwrap();
    assert!(removed.is_superset(&ready), "{removed:?} {ready:?}");

    let ready = another(&place, "the flushed one is replaced", &removed).await;
    for name in &ready {
        virsh('A', &["destroy", name]).unwrap();
    }
    let ready = another(&place, "the one without power is replaced", &ready).await;

    tokio::task::spawn_blocking(|| restart("a", "0"))
        .await
        .unwrap();
    queue(&place, 1);
    until(&place, "a job is done after the restart", all_succeeded).await;
    println!("{} registrations", place.sim.registrations_created());
    drop(ready);

    assert_eq!(manager.terminate(), Some(0));
    configure(&place, "min_idle = 0\nidle_timeout_seconds = 1");
    let manager = place.start();
    until(&place, "nothing is left on the host", |_| is_bare('A')).await;
    until(&place, "no registration is left", |place| {
        place.sim.runners().is_empty()
    })
    .await;
    assert_eq!(manager.terminate(), Some(0));
}

async fn manager(prefix: &str, hosts: &[String]) -> Connected {
    let hosts = hosts
        .iter()
        .map(|uri| json!({"uri": uri, "reserved_memory_mib": 0}));
    let section = json!({
        "hosts": hosts.collect::<Vec<_>>(),
        "storage_pool": "runners",
        "image": "image.qcow2",
        "vcpus": 1,
        "memory_mib": 64,
        "cpu_overcommit": 100.0,
        "network": "user",
    });
    let context = BackendContext {
        prefix: NamePrefix::new(prefix).unwrap(),
        timings: Timings::default(),
        clock: Arc::new(SystemClock),
        budgets: Budgets::default(),
    };
    (BACKEND.connect)(context, section).await.unwrap()
}

async fn create(manager: &Connected) -> InstanceId {
    let request = CreateRunner {
        id: InstanceId::random(),
        credential: RunnerCredential::JitConfig(Secret::new("c2VjcmV0")),
        github: GitHubRunnerConfig {
            github_path: GitHubPath::parse("octo", None).unwrap(),
            labels: Labels::parse(["linux", "x64"]).unwrap(),
        },
        support: SupportServiceConfig::default(),
    };
    manager.create_runner(request).await.unwrap()
}

/// The disks hold no system that boots here: the guests stand still in the firmware.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_domains_leave_nothing_and_a_dead_host_blocks_nobody() {
    let _alone = HOSTS.lock().await;
    let token = RemoveToken::new(Secret::new("x"));
    let both = manager(
        "churn",
        &[uri('B'), "qemu+unix:///system?socket=/nowhere".into()],
    )
    .await;
    for _ in 0..15 {
        let (one, two) = tokio::join!(create(&both), create(&both));
        assert_eq!(inventory('B').0.len(), 2);
        for id in [one, two] {
            both.delete_runner(&id, &token).await.unwrap().unwrap();
        }
    }
    assert!(is_bare('B'), "{:?}", inventory('B'));

    // The host tells of a change by itself.
    let id = create(&both).await;
    let name = both.name_prefix().runner_name(&id).to_string();
    while tokio::time::timeout(Duration::from_secs(2), both.changed())
        .await
        .is_ok()
    {}
    virsh('B', &["destroy", &name]).unwrap();
    let told = tokio::time::timeout(PATIENCE, both.changed()).await;
    assert!(told.is_ok(), "no event");
    assert!(both.get_runner(&id).await.unwrap().is_none());
    for file in inventory('B')
        .1
        .iter()
        .filter(|file| file.starts_with(&name))
    {
        virsh('B', &["vol-delete", file, "--pool", "runners"]).unwrap();
    }

    // A host that dies takes nothing of what it holds out of sight.
    let pair = manager("pair", &[uri('B'), uri('A')]).await;
    let (one, two) = tokio::join!(create(&pair), create(&pair));
    assert_eq!((inventory('A').0.len(), inventory('B').0.len()), (1, 1));
    assert_eq!(pair.get_runners(None).await.unwrap().len(), 2);
    let outage = tokio::task::spawn_blocking(|| restart("b", "10"));
    let end = Instant::now() + PATIENCE;
    let kept = CloudRunnerState::Unexpected("host does not answer".into());
    let kept = [kept];
    while pair.get_runners(Some(&kept)).await.unwrap().len() != 1 {
        assert!(Instant::now() < end, "the outage is not noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let third = create(&pair).await;
    assert_eq!(inventory('A').0.len(), 2);
    outage.await.unwrap();
    for id in [one, two, third] {
        while let Err(error) = pair.delete_runner(&id, &token).await {
            assert!(Instant::now() < end, "{error}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert!(is_bare('A') && is_bare('B'), "{:?}", inventory('B'));
}
