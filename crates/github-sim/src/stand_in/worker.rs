//! `Runner.Worker`: runs one job, given as a line on its standard input.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

use super::block_on;
use crate::Conclusion;

/// The real worker's exit codes.
const SUCCEEDED: u8 = 100;
const FAILED: u8 = 102;
const CANCELLED: u8 = 103;

/// GitHub's bound for a job on a self-hosted runner.
const MAX_JOB: Duration = Duration::from_secs(5 * 24 * 3_600);

/// A job, as the listener gives it.
#[derive(Debug, Deserialize)]
struct Job {
    id: u64,
    run_id: u64,
    name: String,
    workflow: String,
    repository: String,
    event: String,
    branch: String,
    duration_ms: u64,
    script: Option<String>,
    conclusion: Conclusion,
    server_url: String,
}

/// What a worker's exit code says.
pub(super) fn conclusion(code: Option<i32>, cancelled: bool) -> &'static str {
    match code {
        _ if cancelled => "cancelled",
        Some(code) if code == i32::from(SUCCEEDED) => "success",
        Some(code) if code == i32::from(CANCELLED) => "cancelled",
        _ => "failure",
    }
}

/// Runs the worker.
pub(super) fn main() -> ExitCode {
    match block_on(work()) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(error)) | Err(error) => {
            eprintln!("the job failed: {error}");
            ExitCode::from(FAILED)
        }
    }
}

async fn work() -> Result<u8, String> {
    let mut input = BufReader::new(tokio::io::stdin());
    let mut line = String::new();
    input
        .read_line(&mut line)
        .await
        .map_err(|e| format!("no job was given: {e}"))?;
    let job: Job = serde_json::from_str(&line).map_err(|e| format!("odd job: {e}"))?;
    let mut rest = Vec::new();
    tokio::select! {
        done = tokio::time::timeout(MAX_JOB, run(&job)) => {
            done.unwrap_or_else(|_| Err("the job took longer than five days".into()))
        }
        // The listener closes the input to cancel, and by its end.
        _ = input.read_to_end(&mut rest) => Ok(CANCELLED),
    }
}

async fn run(job: &Job) -> Result<u8, String> {
    let root = std::env::current_dir().map_err(|e| format!("no current folder: {e}"))?;
    let work = root.join(std::env::var("RUNNER_WORK_FOLDER").unwrap_or_else(|_| "_work".into()));
    let environment = environment(job, &work)?;
    let workspace = PathBuf::from(&environment["GITHUB_WORKSPACE"]);
    let hook = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty());
    if let Some(hook) = hook("ACTIONS_RUNNER_HOOK_JOB_STARTED") {
        shell(&[hook.as_ref()], &environment, &workspace).await?;
    }
    let mut result = Ok(());
    if let Some(script) = &job.script {
        result = shell(&["-c".as_ref(), script.as_ref()], &environment, &workspace).await;
    }
    if result.is_ok() {
        tokio::time::sleep(Duration::from_millis(job.duration_ms)).await;
    }
    if let Some(hook) = hook("ACTIONS_RUNNER_HOOK_JOB_COMPLETED") {
        let ended = shell(&[hook.as_ref()], &environment, &workspace).await;
        result = result.and(ended);
    }
    result?;
    Ok(match job.conclusion {
        Conclusion::Success => SUCCEEDED,
        Conclusion::Failure => FAILED,
        Conclusion::Cancelled => CANCELLED,
    })
}

/// Runs a shell to its end; it is killed when the job is cancelled.
async fn shell(
    arguments: &[&std::ffi::OsStr],
    environment: &BTreeMap<&str, String>,
    folder: &Path,
) -> Result<(), String> {
    let status = Command::new("/bin/sh")
        .arg("-e")
        .args(arguments)
        .envs(environment)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|e| format!("/bin/sh cannot be started: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("a script or hook ended with {status}"))
    }
}

/// Makes the work folders and says what the job's processes find in their environment.
fn environment(job: &Job, work: &Path) -> Result<BTreeMap<&'static str, String>, String> {
    let name = job.repository.split('/').next_back().unwrap_or("repo");
    let workspace = work.join(name).join(name);
    let temp = work.join("_temp");
    for folder in [&workspace, &temp] {
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let text = |path: &Path| path.display().to_string();
    let owner = job.repository.split('/').next().unwrap_or_default();
    Ok(BTreeMap::from([
        ("CI", "true".into()),
        ("GITHUB_ACTIONS", "true".into()),
        ("GITHUB_API_URL", format!("{}/api/v3", job.server_url)),
        ("GITHUB_EVENT_NAME", job.event.clone()),
        ("GITHUB_JOB", job.name.clone()),
        ("GITHUB_REF", format!("refs/heads/{}", job.branch)),
        ("GITHUB_REF_NAME", job.branch.clone()),
        ("GITHUB_REPOSITORY", job.repository.clone()),
        ("GITHUB_REPOSITORY_OWNER", owner.to_owned()),
        ("GITHUB_RUN_ATTEMPT", "1".into()),
        ("GITHUB_RUN_ID", job.run_id.to_string()),
        ("GITHUB_RUN_NUMBER", job.id.to_string()),
        ("GITHUB_SERVER_URL", job.server_url.clone()),
        ("GITHUB_WORKFLOW", job.workflow.clone()),
        ("GITHUB_WORKSPACE", text(&workspace)),
        ("RUNNER_OS", "Linux".into()),
        ("RUNNER_TEMP", text(&temp)),
        ("RUNNER_WORKSPACE", text(&work.join(name))),
    ]))
}
