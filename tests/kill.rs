//! The manager is killed at random moments, again and again, while jobs go through.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runner_manager_github_sim::{
    Conclusion, JobSpec, JobStatus, JobView, Sim, SimConfig, Snapshot, write_runner_folder,
};

const KILLS: u32 = 50;
const JOBS: usize = 60;

fn start(config: &Path, log: &Path) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    Command::new(env!("CARGO_BIN_EXE_runner-manager"))
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn configure(dir: &Path, sim: &Sim) {
    write_runner_folder(
        &dir.join("runner"),
        Path::new(env!("CARGO_BIN_EXE_runner-manager")),
    )
    .unwrap();
    fs::write(dir.join("token"), sim.token()).unwrap();
    let text = format!(
        r#"
[manager]
state_dir = "{dir}/state"
poll_interval_ms = 100
cleanup_interval_seconds = 2
[github]
url = "{url}"
token_file = "{dir}/token"
[[pool]]
name = "kill"
backend = "process"
github_path = "octo/hello"
labels = ["kill"]
max = 4
idle_timeout_seconds = 1
grace_seconds = 2
[pool.process]
work_dir = "{dir}/work"
runner_dir = "{dir}/runner"
"#,
        dir = dir.display(),
        url = sim.url()
    );
    fs::write(dir.join("config.toml"), text).unwrap();
}

fn folders(dir: &Path) -> usize {
    let entries = fs::read_dir(dir.join("work"))
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("kill-"))
        .count()
}

/// Processes that run from a runner's folder.
fn processes(dir: &Path) -> usize {
    let work = dir.join("work");
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ours = |path: &Path| fs::read_link(path).is_ok_and(|target| target.starts_with(&work));
    entries
        .filter(|entry| ours(&entry.path().join("exe")) || ours(&entry.path().join("cwd")))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_no_job_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir_path = dir.path().to_owned();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&dir_path, open).unwrap();
    let sim = Sim::start(SimConfig::default()).await.unwrap();
    configure(&dir_path, &sim);
    let (config, log) = (dir_path.join("config.toml"), dir_path.join("log"));
    for _ in 0..JOBS {
        let spec = JobSpec::new("octo/hello", &["self-hosted", "kill"]);
        sim.queue_job(spec.lasting(Duration::from_millis(300)))
            .unwrap();
    }
    let mut most = 0;
    for _ in 0..KILLS {
        let mut manager = start(&config, &log);
        let moment = Duration::from_millis(rand::random_range(20..800));
        tokio::time::sleep(moment).await;
        most = most.max(sim.runners().len());
        manager.kill().unwrap();
        manager.wait().unwrap();
    }
    let mut manager = start(&config, &log);
    // A launch cut off before its record leaves a folder to the sweep, which waits for the grace
    // period where it cannot know the age.
    let over = |seen: &Snapshot| {
        let done = |job: &JobView| job.status == JobStatus::Completed;
        seen.jobs.iter().all(done) && seen.runners.is_empty()
    };
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut settled = sim.wait_for(over, Duration::from_secs(240)).await.is_ok();
    while settled && folders(&dir_path) + processes(&dir_path) > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        settled = Instant::now() < deadline;
    }
    let jobs = sim.jobs();
    let succeeded = jobs
        .iter()
        .filter(|job| job.conclusion == Some(Conclusion::Success))
        .count();
    let (runners, folders) = (sim.runners(), folders(&dir_path));
    manager.kill().unwrap();
    manager.wait().unwrap();
    println!(
        "kill test: {KILLS} kills, {succeeded} of {JOBS} jobs succeeded, {} registrations made, at most {most} at once, left: {} registrations, {folders} folders, {} processes",
        sim.registrations_created(),
        runners.len(),
        processes(&dir_path)
    );
    let tail = fs::read_to_string(&log).unwrap_or_default();
    let tail: Vec<&str> = tail.lines().rev().take(40).collect();
    assert!(settled, "{runners:?} {}", tail.join("\n"));
    assert_eq!(succeeded, JOBS, "jobs were lost");
    assert!(most <= 4, "{most} runners at once where 4 are the most");
}
