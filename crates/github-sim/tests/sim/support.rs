//! What the tests share.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Method, Response};
use runner_manager_core::{GitHubPath, Label, Labels, Secret};
use runner_manager_github::{Auth, GitHub, GitHubConfig, JitRequest};
use runner_manager_github_sim::{
    JobSpec, JobStatus, Sim, SimConfig, Snapshot, write_runner_folder,
};
use serde_json::Value;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const REPO: &str = "acme/app";

pub(crate) async fn sim() -> Sim {
    Sim::start(SimConfig::default()).await.unwrap()
}

pub(crate) fn client(sim: &Sim, token: &str) -> GitHub {
    let auth = Auth::Token(Secret::new(token));
    GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap()
}

pub(crate) fn path(text: &str) -> GitHubPath {
    GitHubPath::parse(text, None).unwrap()
}

pub(crate) fn request(name: &str) -> JitRequest {
    JitRequest {
        name: name.into(),
        group: None,
        labels: Labels::new(vec![Label::new("linux").unwrap()]).unwrap(),
    }
}

pub(crate) fn job() -> JobSpec {
    JobSpec::new(REPO, &["Linux"])
}

/// A stand-in runner's folder, of this test alone.
pub(crate) fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_runner_folder(dir.path(), Path::new(env!("CARGO_BIN_EXE_github-sim"))).unwrap();
    dir
}

/// One of the scripts of a runner's folder, quiet, and allowed to run as root.
pub(crate) fn script(folder: &Path, name: &str) -> Command {
    let mut command = Command::new(folder.join(name));
    command
        .env("RUNNER_ALLOW_RUNASROOT", "1")
        .env("RUNNER_SIM_RETRY_SECONDS", "0.1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// `run.sh` with a just-in-time config.
pub(crate) fn run(folder: &Path, config: &Secret) -> Command {
    let mut command = script(folder, "run.sh");
    command.env("ACTIONS_RUNNER_INPUT_JITCONFIG", config.expose());
    command
}

pub(crate) fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn is(id: u64, status: JobStatus) -> impl Fn(&Snapshot) -> bool {
    move |seen| {
        seen.jobs
            .iter()
            .any(|job| job.id == id && job.status == status)
    }
}

/// One request with the personal token, as any client would make it.
pub(crate) async fn send(sim: &Sim, method: &str, path: &str, body: Option<Value>) -> Response {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client
        .request(method, format!("{}{path}", sim.api_url()))
        .bearer_auth(sim.token());
    if let Some(body) = body {
        request = request.json(&body);
    }
    request.send().await.unwrap()
}
