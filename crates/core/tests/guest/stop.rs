//! Stopping runners: no job is lost.

use std::process::Command;
use std::time::Duration;

use runner_manager_core::{Guest, StopMode, StopOutcome};

use crate::instance::{Instance, eventually, shells};

/// Waits for a job, takes it, prepares for 50,000 rounds, and starts a worker for it. As the
/// real listener does, it writes to its log as soon as the job is its own.
const LISTENER: &str = "
read -r job <fifo
echo taken >_diag/Runner_1-utc.log
i=0
while [ $i -lt 50000 ]; do i=$((i + 1)); done
bin/Runner.Worker 2 && echo done >done
";

/// One that nobody gives a job. Like the real one, it has no child.
fn idle(instance: &Instance) {
    fifo(instance);
    instance.run("Runner.Listener", &["-c", "read -r job <fifo"]);
}

fn fifo(instance: &Instance) {
    let status = Command::new("mkfifo").arg(instance.path("fifo")).status();
    assert!(status.expect("mkfifo").success());
}

#[tokio::test]
async fn an_idle_runner_is_stopped() {
    for shell in shells() {
        for mode in [StopMode::Idle, StopMode::IdleOrBusy] {
            let instance = Instance::start();
            let guest = instance.guest(&shell);
            let stop = async || guest.stop_runner(mode).await.expect("an answer");
            assert_eq!(stop().await, StopOutcome::NotRunning, "{shell:?}");
            idle(&instance);
            assert_eq!(stop().await, StopOutcome::Stopped, "{shell:?}");
            assert!(!instance.has("Runner.Listener"));
            assert_eq!(stop().await, StopOutcome::NotRunning, "{shell:?}");
        }
    }
}

#[tokio::test]
async fn a_busy_runner_is_stopped_only_when_asked() {
    for shell in shells() {
        let instance = Instance::start();
        let guest = instance.guest(&shell);
        idle(&instance);
        instance.run("Runner.Worker", &["600"]);
        let outcome = guest.stop_runner(StopMode::Idle).await.expect("an answer");
        assert_eq!(outcome, StopOutcome::Busy, "{shell:?}");
        assert!(instance.has("Runner.Listener") && instance.has("Runner.Worker"));
        std::fs::write(instance.path("fifo"), "job\n").expect("a listener that reads");
        eventually("the listener goes on", || !instance.has("Runner.Listener"));
        let outcome = guest.stop_runner(StopMode::IdleOrBusy).await;
        assert_eq!(outcome.expect("an answer"), StopOutcome::Stopped);
        assert!(!instance.has("Runner.Worker"));
    }
}

#[tokio::test]
async fn a_worker_without_its_listener_is_a_job_too() {
    let instance = Instance::start();
    let guest = instance.guest(&shells()[0]);
    instance.run("Runner.Worker", &["600"]);
    let outcome = guest.stop_runner(StopMode::Idle).await.expect("an answer");
    assert_eq!(outcome, StopOutcome::Busy);
    assert!(instance.has("Runner.Worker"));
}

#[tokio::test]
async fn a_job_that_arrives_with_the_stop_is_done_or_was_never_taken() {
    let mut outcomes = Vec::new();
    let shell = &shells()[0];
    for round in 0..8 {
        let instance = Instance::start();
        let guest = instance.guest(shell);
        fifo(&instance);
        instance.run("Runner.Listener", &["-c", LISTENER]);
        let (log, pipe) = (
            instance.path("_diag/Runner_1-utc.log"),
            instance.path("fifo"),
        );
        let delay = Duration::from_millis(round * 8);
        let taken = log.clone();
        let job = std::thread::spawn(move || {
            std::thread::sleep(delay);
            // Nobody reads any more once the listener has gone.
            let send = ["-c", "echo job >\"$0\"", pipe.to_str().expect("a path")];
            let _ = Command::new("timeout")
                .arg("1")
                .arg("sh")
                .args(send)
                .status();
        });
        if round == 0 {
            eventually("the job is taken", || taken.exists());
        }
        let outcome = guest.stop_runner(StopMode::Idle).await.expect("an answer");
        outcomes.push(outcome);
        match outcome {
            StopOutcome::Busy => {
                eventually("the job's end", || instance.path("done").exists());
            }
            StopOutcome::Stopped => {
                assert!(!log.exists(), "round {round}: a job was taken and is lost");
            }
            StopOutcome::NotRunning => panic!("round {round}: the listener was not seen"),
        }
        job.join().expect("the job was sent");
    }
    assert_eq!(outcomes[0], StopOutcome::Busy, "{outcomes:?}");
    eprintln!("{outcomes:?}");
}
