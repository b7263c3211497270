//! The guest made of commands, with its real scripts and real processes.

mod files;
mod instance;
mod stop;

use runner_manager_core::{CloudInitStatus, ErrorKind, Guest, GuestProbe};

use instance::{Instance, eventually, shells};

#[tokio::test]
async fn a_probe_sees_what_runs() {
    for shell in shells() {
        let instance = Instance::start();
        let guest = instance.guest(&shell);
        let mut expected = GuestProbe {
            installed: false,
            cloud_init: Some(CloudInitStatus::Running),
            listener: false,
            worker: false,
        };
        let probe = async || guest.probe().await.expect("a probe");
        assert_eq!(probe().await, expected, "{shell:?}");
        std::fs::write(instance.exchange("runner-installed.timestamp"), "1").expect("a file");
        expected.installed = true;
        assert_eq!(probe().await, expected, "{shell:?}");
        instance.run("Runner.Worker", &["1"]);
        // The job is not disturbed.
        (expected.worker, expected.cloud_init) = (true, None);
        assert_eq!(probe().await, expected, "{shell:?}");
        eventually("the worker's end", || !instance.has("Runner.Worker"));
        instance.run("Runner.Listener", &["-c", "sleep 600; true"]);
        (expected.worker, expected.listener) = (false, true);
        expected.cloud_init = Some(CloudInitStatus::Running);
        assert_eq!(probe().await, expected, "{shell:?}");
    }
}

#[tokio::test]
async fn an_operator_runs_a_command() {
    let instance = Instance::start();
    let guest = instance.guest(&shells()[0]);
    let argv = ["printf", "%s|", "$(id)", "a b", "'"].map(str::to_owned);
    let output = guest.run(argv.into()).await.expect("an end");
    assert_eq!(output.status, Some(0));
    assert_eq!(output.stdout, b"$(id)|a b|'|");
    let refused = guest.terminal().expect_err("no terminal");
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}
