//! Jobs on stand-in runners.

use std::fs;
use std::process::Command;
use std::time::Duration;

use runner_manager_core::ErrorKind;
use runner_manager_github::Deleted;
use runner_manager_github_sim::{Conclusion, JobStatus};

use crate::support::{
    DEADLINE, REPO, client, executable, folder, is, job, path, request, run, script, sim,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_from_queued_to_done_and_the_runner_leaves_the_list() {
    let sim = sim().await;
    let github = client(&sim, sim.token());
    for (wanted, word) in [
        (Conclusion::Success, "success"),
        (Conclusion::Failure, "failure"),
    ] {
        let folder = folder();
        let id = sim.queue_job(job().ending(wanted)).unwrap();
        let repository = [("acme".to_owned(), "app".to_owned())];
        assert_eq!(github.queued_jobs(&repository).await.unwrap()[0].id, id);
        let jit = github
            .jit_config(&path(REPO), &request("app-1"))
            .await
            .unwrap();
        let mut runner = run(folder.path(), &jit.config).spawn().unwrap();
        sim.wait_for(is(id, JobStatus::Completed), DEADLINE)
            .await
            .unwrap();
        assert!(runner.wait().unwrap().success());
        let seen = github.job("acme", "app", id).await.unwrap().unwrap();
        assert_eq!(seen.conclusion.as_deref(), Some(word));
        assert_eq!(seen.runner_name.as_deref(), Some("app-1"));
        assert!(
            github
                .runners(&path(REPO))
                .await
                .unwrap()
                .runners
                .is_empty()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_runner_loses_its_job_and_goes_offline() {
    let (sim, folder) = (sim().await, folder());
    let github = client(&sim, sim.token());
    let id = sim
        .queue_job(job().lasting(Duration::from_secs(60)))
        .unwrap();
    let jit = github
        .jit_config(&path(REPO), &request("app-1"))
        .await
        .unwrap();
    let mut runner = Command::new(folder.path().join("bin/Runner.Listener"))
        .args(["run", "--jitconfig", jit.config.expose()])
        .env("RUNNER_ALLOW_RUNASROOT", "1")
        .spawn()
        .unwrap();
    sim.wait_for(is(id, JobStatus::InProgress), DEADLINE)
        .await
        .unwrap();
    let refused = github
        .delete_runner(&path(REPO), jit.runner.id)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    runner.kill().unwrap();
    runner.wait().unwrap();
    let seen = sim
        .wait_for(is(id, JobStatus::Completed), DEADLINE)
        .await
        .unwrap();
    assert_eq!(seen.jobs[0].conclusion, Some(Conclusion::Failure));
    assert!(
        seen.jobs[0]
            .reason
            .as_deref()
            .unwrap()
            .contains("lost communication")
    );
    assert!(!sim.runners()[0].online);
    let deleted = github
        .delete_runner(&path(REPO), jit.runner.id)
        .await
        .unwrap();
    assert_eq!(deleted, Deleted::Deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_on_the_runner_too() {
    let (sim, folder) = (sim().await, folder());
    let github = client(&sim, sim.token());
    let id = sim
        .queue_job(job().lasting(Duration::from_secs(60)))
        .unwrap();
    let jit = github
        .jit_config(&path(REPO), &request("app-1"))
        .await
        .unwrap();
    let mut runner = run(folder.path(), &jit.config).spawn().unwrap();
    sim.wait_for(is(id, JobStatus::InProgress), DEADLINE)
        .await
        .unwrap();
    assert!(sim.cancel_job(id));
    assert!(!sim.cancel_job(id), "it is over");
    assert!(runner.wait().unwrap().success());
    assert_eq!(sim.job(id).unwrap().conclusion, Some(Conclusion::Cancelled));
    assert!(sim.runners().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_registers_with_a_token_and_says_goodbye() {
    let (sim, folder) = (sim().await, folder());
    let github = client(&sim, sim.token());
    let configure = |token: &str| {
        let mut command = script(folder.path(), "config.sh");
        command
            .args(["--unattended", "--ephemeral", "--url"])
            .arg(github.scope_url(&path("acme")))
            .args(["--name", "app-1", "--labels", "one,two", "--token", token]);
        command
    };
    let taken = configure("AAAA").status().unwrap();
    assert!(!taken.success(), "a token that GitHub never gave");
    let token = github.registration_token(&path("acme")).await.unwrap();
    assert_ne!(token.token.expose(), sim.token());
    assert!(configure(token.token.expose()).status().unwrap().success());
    assert!(sim.runners()[0].labels.contains(&"two".to_owned()));
    let mut runner = script(folder.path(), "run.sh").spawn().unwrap();
    sim.wait_for(|seen| seen.runners[0].online, DEADLINE)
        .await
        .unwrap();
    let listener = listener_of(runner.id());
    assert!(
        Command::new("kill")
            .arg(listener)
            .status()
            .unwrap()
            .success()
    );
    assert!(runner.wait().unwrap().success());
    assert!(!sim.runners()[0].online, "it has said goodbye");
    let token = github.remove_token(&path("acme")).await.unwrap();
    let mut remove = script(folder.path(), "config.sh");
    remove.args(["remove", "--token", token.token.secret().expose()]);
    assert!(remove.status().unwrap().success());
    assert!(sim.runners().is_empty());
}

/// The process that `run.sh` waits for.
fn listener_of(parent: u32) -> String {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(children).unwrap();
    children.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_and_scripts_run_with_the_runners_environment() {
    let (sim, folder) = (sim().await, folder());
    let github = client(&sim, sim.token());
    let hook = folder.path().join("hook.sh");
    let seen = folder.path().join("seen");
    executable(
        &hook,
        "echo \"hook $MINE $GITHUB_REPOSITORY\" >>\"$SEEN\"\n",
    );
    let environment = format!(
        "MINE=a b\nSEEN={}\nACTIONS_RUNNER_HOOK_JOB_STARTED={}\n",
        seen.display(),
        hook.display()
    );
    fs::write(folder.path().join(".env"), environment).unwrap();
    let spec = job().running("echo job >>\"$SEEN\"; env >>\"$SEEN\"; exit 3");
    let id = sim.queue_job(spec).unwrap();
    let jit = github
        .jit_config(&path(REPO), &request("app-1"))
        .await
        .unwrap();
    assert!(run(folder.path(), &jit.config).status().unwrap().success());
    assert_eq!(sim.job(id).unwrap().conclusion, Some(Conclusion::Failure));
    let text = fs::read_to_string(seen).unwrap();
    assert!(text.starts_with("hook a b acme/app\njob\n"), "{text}");
    assert!(
        !text.contains(jit.config.expose()),
        "the job sees the credential"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_just_in_time_config_serves_one_folder() {
    let (sim, first, second) = (sim().await, folder(), folder());
    let github = client(&sim, sim.token());
    let jit = github
        .jit_config(&path(REPO), &request("app-1"))
        .await
        .unwrap();
    let mut runner = run(first.path(), &jit.config).spawn().unwrap();
    sim.wait_for(|seen| seen.runners[0].online, DEADLINE)
        .await
        .unwrap();
    let conflict = run(second.path(), &jit.config).status().unwrap();
    assert_eq!(conflict.code(), Some(5));
    github
        .delete_runner(&path(REPO), jit.runner.id)
        .await
        .unwrap();
    assert!(runner.wait().unwrap().success(), "`run.sh` tells 1 as 0");
}
