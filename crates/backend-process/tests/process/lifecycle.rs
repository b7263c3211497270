//! From create to delete.

use std::fs;
use std::time::{Duration, Instant};

use runner_manager_core::{
    Cloud, CloudRunnerState, ErrorKind, HealthState, JobStatus, RunnerName, StopMode, StopOutcome,
    Support,
};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_runner_lives_and_goes() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    bed.wait_for(&name, "home/env").await;
    wait_for_busy(&bed, &manager, &name, false).await;
    let runner = manager
        .get_runner(name.instance_id())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(runner.state, CloudRunnerState::Active);
    assert_eq!(
        runner.health,
        HealthState::Healthy,
        "{}",
        runner.health_reason
    );
    assert_eq!(manager.get_runners(None).await.unwrap().len(), 1);
    let flushed = flush(&manager, false).await;
    assert_eq!(flushed.len(), 1);
    assert!(
        flushed[0].installed_at.is_some(),
        "{:?}",
        flushed[0].set_aside
    );
    assert!(
        manager
            .get_runner(name.instance_id())
            .await
            .unwrap()
            .is_none()
    );
    let again = manager
        .delete_runner(name.instance_id(), &remove_token())
        .await;
    assert!(again.unwrap().is_none());
    bed.assert_nothing_left();
    assert_eq!(
        fs::read_dir(bed.work_dir().join("failed")).unwrap().count(),
        0
    );
}

/// Without a cgroup the processes of a runner come from a scan of all processes. A scan from before
/// its launch does not show them.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_was_just_started_is_not_taken_for_dead() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let first = create(&manager).await;
    wait_for_busy(&bed, &manager, &first, false).await;
    for _ in 0..10 {
        let request = request();
        let name = manager.name_prefix().runner_name(&request.id);
        let installed = bed
            .folder(&name)
            .join("exchange/runner-installed.timestamp");
        // Another runner is polled until this one has started.
        let deadline = Instant::now() + Duration::from_secs(60);
        let polls = async {
            while !installed.exists() {
                assert!(Instant::now() < deadline, "the runner does not start");
                manager.get_runner(first.instance_id()).await.unwrap();
            }
        };
        let (created, ()) = tokio::join!(manager.create_runner(request), polls);
        created.unwrap();
        let found = manager.get_runner(name.instance_id()).await;
        let runner = found.unwrap().unwrap();
        let reason = runner.health_reason;
        assert_eq!(runner.health, HealthState::Healthy, "{reason}");
        delete(&manager, &name).await;
    }
    delete(&manager, &first).await;
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guest_says_what_runs_and_stops_only_what_is_idle() {
    for (fake, busy) in [("idle", false), ("busy", true)] {
        let bed = Bed::new(fake);
        let cloud = bed.cloud().await;
        let instance = cloud.launch(&spec("app")).await.unwrap();
        let guest = cloud.guest(&instance).await.unwrap();
        let probe = eventually("the runner's processes", async || {
            let probe = guest.probe().await.unwrap();
            let up = probe.installed && probe.listener && probe.worker == busy;
            (up && bed.read(&instance.name, "home/env").is_some()).then_some(probe)
        })
        .await;
        assert_eq!(probe.cloud_init, None);
        if busy {
            let outcome = guest.stop_runner(StopMode::Idle).await.unwrap();
            assert_eq!(outcome, StopOutcome::Busy);
            assert!(guest.probe().await.unwrap().worker);
            // It goes on: a stopped process would show as such.
            for pid in processes(&mark(&instance.name)) {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                assert!(!stat.contains(") T "), "{stat}");
            }
        }
        let outcome = guest.stop_runner(StopMode::IdleOrBusy).await.unwrap();
        assert_eq!(outcome, StopOutcome::Stopped);
        assert!(processes(&mark(&instance.name)).is_empty());
        let outcome = guest.stop_runner(StopMode::Idle).await.unwrap();
        assert_eq!(outcome, StopOutcome::NotRunning);
        let stopped = cloud.get(&instance.name).await.unwrap().unwrap();
        assert_eq!(stopped.state, CloudRunnerState::Stopped);
        cloud.terminate(&stopped).await.unwrap();
        cloud.terminate(&stopped).await.unwrap();
        bed.assert_nothing_left();
    }
}

/// The mark of a runner without its realm is found as the end of the mark.
fn mark(name: &RunnerName) -> String {
    let all = processes("");
    let end = format!("/{name}");
    for pid in all {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        for variable in environ.split(|byte| *byte == 0) {
            let text = String::from_utf8_lossy(variable);
            if let Some(value) = text.strip_prefix("RUNNER_MANAGER_INSTANCE=")
                && value.ends_with(&end)
            {
                return value.to_owned();
            }
        }
    }
    format!("no-process-of-{name}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_runner_is_flushed_only_on_demand() {
    let bed = Bed::new("busy");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    wait_for_busy(&bed, &manager, &name, true).await;
    assert!(flush(&manager, false).await.is_empty());
    assert!(cleanup(&manager).await.is_empty());
    wait_for_busy(&bed, &manager, &name, true).await;
    assert_eq!(flush(&manager, true).await.len(), 1);
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_leaves_its_metrics() {
    let bed = Bed::new("job");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    eventually("the end of the job", async || {
        let runner = manager
            .get_runner(name.instance_id())
            .await
            .unwrap()
            .unwrap();
        (runner.state == CloudRunnerState::Stopped).then_some(())
    })
    .await;
    let metrics = delete(&manager, &name).await;
    assert!(metrics.set_aside.is_empty(), "{:?}", metrics.set_aside);
    let pre = metrics.pre_job.unwrap();
    assert_eq!(pre.workflow, "quote \" and \\ back");
    assert_eq!(
        (pre.repository.as_str(), pre.event.as_str()),
        ("octo/hello", "push")
    );
    assert_eq!(metrics.post_job.unwrap().status, JobStatus::Normal);
    assert!(metrics.installed_at.unwrap() >= metrics.installation_start);
    bed.assert_nothing_left();
    assert_eq!(
        fs::read_dir(bed.work_dir().join("failed")).unwrap().count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_runner_leaves_its_log() {
    let bed = Bed::new("fail");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    let removed = eventually("the failure", async || cleanup(&manager).await.pop()).await;
    let post = removed.post_job.unwrap();
    assert_eq!(post.status, JobStatus::Abnormal);
    assert_eq!(post.status_info.unwrap().code, 3);
    bed.assert_nothing_left();
    let log = fs::read_to_string(bed.work_dir().join(format!("failed/{name}.log"))).unwrap();
    assert!(
        log.contains("ended with code 3") && log.contains("it went wrong"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stray_grandchild_survives() {
    let bed = Bed::new("stray");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    let mark = eventually("the strays", async || {
        let mark = mark(&name);
        (processes(&mark).len() >= 5).then_some(mark)
    })
    .await;
    delete(&manager, &name).await;
    assert_eq!(processes(&mark), Vec::<i32>::new());
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_manager_finds_the_runners_of_the_old() {
    let bed = Bed::new("idle");
    let old = bed.connect("app").await.unwrap();
    let name = create(&old).await;
    wait_for_busy(&bed, &old, &name, false).await;
    drop(old);
    let new = bed.connect("app").await.unwrap();
    let runners = new.get_runners(None).await.unwrap();
    assert_eq!(runners.len(), 1);
    assert_eq!(
        (&runners[0].name, runners[0].health),
        (&name, HealthState::Healthy)
    );
    assert_eq!(flush(&new, false).await.len(), 1);
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn launch_is_idempotent_by_name() {
    let bed = Bed::new("idle");
    let cloud = bed.cloud().await;
    let spec = spec("app");
    let (first, second) = tokio::join!(cloud.launch(&spec), cloud.launch(&spec));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.native_id, second.native_id);
    let third = bed.cloud().await.launch(&spec).await.unwrap();
    assert_eq!(first.native_id, third.native_id);
    assert_eq!(cloud.list(spec.name.prefix()).await.unwrap().len(), 1);
    cloud.terminate(&first).await.unwrap();
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_created_at_once() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let creates = (0..16).map(|_| create(&manager));
    let names = futures::future::join_all(creates).await;
    for name in &names {
        wait_for_busy(&bed, &manager, name, false).await;
    }
    assert_eq!(manager.get_runners(None).await.unwrap().len(), 16);
    let mut uids: Vec<String> = Vec::new();
    for name in &names {
        uids.push(bed.wait_for(name, "home/uid").await);
    }
    uids.sort();
    uids.dedup();
    assert_eq!(uids.len(), if is_root() { 16 } else { 1 });
    assert_eq!(flush(&manager, false).await.len(), 16);
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_do_not_touch_each_other() {
    let bed = Bed::new("idle");
    let one = bed.connect("app-1").await.unwrap();
    let ten = bed.connect("app-10").await.unwrap();
    let (a, b) = (create(&one).await, create(&ten).await);
    wait_for_busy(&bed, &one, &a, false).await;
    wait_for_busy(&bed, &ten, &b, false).await;
    let foreign = bed.work_dir().join("app-1-x");
    fs::create_dir(&foreign).unwrap();
    assert_eq!(one.get_runners(None).await.unwrap().len(), 1);
    assert_eq!(flush(&one, true).await.len(), 1);
    wait_for_busy(&bed, &ten, &b, false).await;
    assert!(foreign.exists());
    delete(&ten, &b).await;
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_capability_says_what_this_user_can_have() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let capability = manager.capability();
    assert_eq!(capability.max_instances.is_some(), is_root());
    if !is_root() {
        assert!(matches!(
            capability.resource_limits,
            Support::Unsupported(_)
        ));
        let limited = Bed::new("idle").with("limits", serde_json::json!({"tasks": 100}));
        let error = limited.connect("app").await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
    bed.assert_nothing_left();
}
