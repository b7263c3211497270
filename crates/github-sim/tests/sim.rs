//! The simulated GitHub with the real client and real stand-in processes.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runner_manager_core::{ErrorKind, GitHubPath, Label, Labels, Secret};
use runner_manager_github::{Auth, Deleted, GitHub, GitHubConfig, JitRequest};
use runner_manager_github_sim::{JobSpec, Sim, write_runner_folder};

const DEADLINE: Duration = Duration::from_secs(20);

fn client(sim: &Sim, token: &str) -> GitHub {
    let auth = Auth::Token(Secret::new(token));
    GitHub::new(GitHubConfig::new(sim.url().parse().unwrap(), auth)).unwrap()
}

fn scope() -> GitHubPath {
    GitHubPath::parse("octo/hello", None).unwrap()
}

fn request(name: &str) -> JitRequest {
    let labels = Labels::new(vec![Label::new("linux").unwrap()]).unwrap();
    JitRequest {
        name: name.into(),
        group: None,
        labels,
    }
}

fn job(exit_code: u8, duration: Duration) -> JobSpec {
    JobSpec {
        repository: "octo/hello".into(),
        name: "build".into(),
        labels: vec!["Linux".into()],
        duration,
        exit_code,
    }
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_runner_folder(dir.path(), Path::new(env!("CARGO_BIN_EXE_github-sim"))).unwrap();
    dir
}

fn run(folder: &Path, config: &Secret) -> Child {
    Command::new(folder.join("run.sh"))
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", config.expose())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_from_queued_to_done_and_the_runner_leaves_the_list() {
    let (sim, folder) = (Sim::start(0).await.unwrap(), folder());
    let github = client(&sim, sim.token());
    for (exit_code, conclusion) in [(0, "success"), (3, "failure")] {
        let id = sim.queue_job(job(exit_code, Duration::from_millis(10)));
        let repository = [("octo".to_owned(), "hello".to_owned())];
        assert_eq!(github.queued_jobs(&repository).await.unwrap()[0].id, id);
        let jit = github
            .jit_config(&scope(), &request("app-1"))
            .await
            .unwrap();
        let mut runner = run(folder.path(), &jit.config);
        let done = |sim: &Sim| {
            sim.jobs()
                .iter()
                .any(|j| j.id == id && j.status == "completed")
        };
        assert!(sim.wait_for(DEADLINE, done).await);
        assert!(runner.wait().unwrap().success());
        let seen = github.job("octo", "hello", id).await.unwrap().unwrap();
        assert_eq!(seen.conclusion.as_deref(), Some(conclusion));
        assert_eq!(seen.runner_name.as_deref(), Some("app-1"));
        assert!(github.runners(&scope()).await.unwrap().runners.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runner_loses_its_job_and_goes_offline() {
    let (sim, folder) = (Sim::start(0).await.unwrap(), folder());
    let github = client(&sim, sim.token());
    let id = sim.queue_job(job(0, Duration::from_secs(2)));
    let jit = github
        .jit_config(&scope(), &request("app-1"))
        .await
        .unwrap();
    let listener = folder.path().join("bin/Runner.Listener");
    let mut runner = Command::new(listener)
        .args(["run", "--jitconfig", jit.config.expose()])
        .spawn()
        .unwrap();
    let busy = |sim: &Sim| sim.runners().iter().any(|r| r.busy);
    assert!(sim.wait_for(DEADLINE, busy).await);
    let refused = github
        .delete_runner(&scope(), jit.runner.id)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    runner.kill().unwrap();
    runner.wait().unwrap();
    let lost = |sim: &Sim| {
        sim.jobs()
            .iter()
            .any(|j| j.id == id && j.conclusion == Some("failure"))
    };
    assert!(sim.wait_for(DEADLINE, lost).await);
    assert!(!sim.runners()[0].online);
    let deleted = github.delete_runner(&scope(), jit.runner.id).await.unwrap();
    assert_eq!(deleted, Deleted::Deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_taken_once_and_tokens_are_checked() {
    let sim = Sim::start(0).await.unwrap();
    let github = client(&sim, sim.token());
    github
        .jit_config(&scope(), &request("app-1"))
        .await
        .unwrap();
    let twice = github
        .jit_config(&scope(), &request("app-1"))
        .await
        .unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    let stranger = client(&sim, "ghp_wrong")
        .runners(&scope())
        .await
        .unwrap_err();
    assert_eq!(stranger.kind(), ErrorKind::Unauthenticated);
}
