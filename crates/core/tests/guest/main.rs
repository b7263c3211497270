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

/// What cloud-init writes while it runs, and when it has ended: a file, its content, and what a
/// probe of an idle runner finds where asking would give `Done`.
const NOTES: [(&str, &str, CloudInitStatus); 5] = [
    (
        "status.json",
        r#"{
 "v1": {
  "init": {
   "errors": [],
   "finished": 2.5,
   "recoverable_errors": {}
  },
  "stage": "modules-final"
 }
}"#,
        CloudInitStatus::Running,
    ),
    (
        "status.json",
        r#"{
 "v1": {
  "init": {
   "errors": [
    "no network"
   ]
  },
  "stage": "modules-final"
 }
}"#,
        CloudInitStatus::Done,
    ),
    (
        "status.json",
        r#"{"v1": {"init": {"errors": ["one line"]}, "stage": "modules-final"}}"#,
        CloudInitStatus::Done,
    ),
    (
        "status.json",
        r#"{
 "v1": {
  "stage": "init"
 }
}"#,
        CloudInitStatus::Done,
    ),
    (
        "result.json",
        r#"{
 "v1": {
  "errors": []
 }
}"#,
        CloudInitStatus::Done,
    ),
];

#[tokio::test]
async fn cloud_init_is_asked_only_for_what_its_notes_do_not_say() {
    for shell in shells() {
        let instance = Instance::start();
        let guest = instance.guest(&shell);
        std::fs::write(instance.path("says"), "status: done\n").expect("a file");
        let status = async || guest.probe().await.expect("a probe").cloud_init;
        let write = |file: &str, text: &str| {
            instance.sh(&format!("echo '{text}' >/run/cloud-init/{file}"));
        };
        // While nothing listens, what ends badly is told at once.
        write(NOTES[0].0, NOTES[0].1);
        assert_eq!(status().await, Some(CloudInitStatus::Done), "{shell:?}");
        std::fs::write(instance.exchange("runner-installed.timestamp"), "1").expect("a file");
        assert_eq!(status().await, Some(CloudInitStatus::Done), "{shell:?}");
        instance.run("Runner.Listener", &["-c", "sleep 600; true"]);
        for (file, text, found) in NOTES {
            write(file, text);
            assert_eq!(status().await, Some(found), "{shell:?} {file}: {text}");
        }
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
