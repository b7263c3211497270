//! Crashes, dropped futures, wrong input.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use runner_manager_core::{Cloud, CloudRunnerState, ErrorKind, InstanceId, NamePrefix};
use serde_json::{Value, json};

use crate::support::*;

/// Changes the record of a runner.
fn edit(bed: &Bed, name: &runner_manager_core::RunnerName, change: impl Fn(&mut Value)) {
    let path = bed.folder(name).join("instance.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(&path, record.to_string()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pid_that_is_used_again_is_not_the_runner() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    wait_for_busy(&bed, &manager, &name, false).await;
    let mut stranger = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    let pid = stranger.id();
    edit(&bed, &name, |record| record["main"]["pid"] = json!(pid));
    let runner = manager
        .get_runner(name.instance_id())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(runner.state, CloudRunnerState::Error);
    delete(&manager, &name).await;
    assert!(
        stranger.try_wait().unwrap().is_none(),
        "a stranger was killed"
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_of_an_earlier_start_of_the_machine_are_errors() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    wait_for_busy(&bed, &manager, &name, false).await;
    edit(&bed, &name, |record| record["boot_id"] = json!("earlier"));
    let runner = manager
        .get_runner(name.instance_id())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(runner.state, CloudRunnerState::Error);
    assert_eq!(cleanup(&manager).await.len(), 1);
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_launch_leaves_nothing_that_cleanup_cannot_find() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let mut created = 0;
    for micros in (0..40).map(|step| step * step * 20) {
        let limit = Duration::from_micros(micros);
        created += u32::from(
            tokio::time::timeout(limit, manager.create_runner(request()))
                .await
                .is_ok(),
        );
    }
    eventually("an end of all launches", async || {
        // What did start is a healthy runner, and listed: an operator can flush it.
        flush(&manager, true).await;
        manager
            .get_runners(None)
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
    eventually("an empty work folder", async || {
        cleanup(&manager).await;
        let names = fs::read_dir(bed.work_dir().join(".locks")).unwrap().count();
        (names == 0).then_some(())
    })
    .await;
    bed.assert_nothing_left();
    assert!(created < 40, "no launch was ever dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_made_and_half_removed_runners_are_found() {
    let bed = Bed::new("idle");
    let cloud = bed.cloud().await;
    let manager = bed.connect("app").await.unwrap();
    let prefix = NamePrefix::new("app").unwrap();
    let half = || prefix.runner_name(&InstanceId::random());
    // Made by a crash right after the folder, and in the midst of a deletion.
    fs::create_dir(bed.folder(&half())).unwrap();
    let garbled = half();
    fs::create_dir(bed.folder(&garbled)).unwrap();
    fs::write(bed.folder(&garbled).join("instance.json"), "{\"name\":").unwrap();
    fs::write(bed.work_dir().join(".locks").join(half().to_string()), "").unwrap();
    let foreign = bed.folder(
        &NamePrefix::new("app-1")
            .unwrap()
            .runner_name(&InstanceId::random()),
    );
    fs::create_dir(&foreign).unwrap();
    // A live runner whose record is lost: its processes are found by user, cgroup or mark.
    let live = cloud.launch(&spec("app")).await.unwrap();
    bed.wait_for(&live.name, "home/env").await;
    fs::remove_file(bed.folder(&live.name).join("instance.json")).unwrap();
    let bare = cloud.launch(&spec("app")).await.unwrap();
    bed.wait_for(&bare.name, "home/env").await;
    fs::remove_dir_all(bed.folder(&bare.name)).unwrap();
    assert!(manager.get_runners(None).await.unwrap().is_empty());
    assert_eq!(cloud.leftovers(&prefix).await.unwrap().len(), 5);
    cleanup(&manager).await;
    assert!(cloud.leftovers(&prefix).await.unwrap().is_empty());
    assert!(foreign.exists());
    fs::remove_dir(foreign).unwrap();
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_finishes_what_a_crash_began() {
    let bed = Bed::new("idle");
    let cloud = bed.cloud().await;
    let spec = spec("app");
    let first = cloud.launch(&spec).await.unwrap();
    bed.wait_for(&spec.name, "home/env").await;
    cloud.terminate(&first).await.unwrap();
    // As a crash between record and process leaves it.
    fs::create_dir(bed.folder(&spec.name)).unwrap();
    let record = json!({
        "name": spec.name, "created_at": first.created_at, "phase": "preparing",
        "uid": null, "boot_id": "earlier", "main": null,
    });
    fs::write(
        bed.folder(&spec.name).join("instance.json"),
        record.to_string(),
    )
    .unwrap();
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    edit(&bed, &spec.name, |record| {
        record["boot_id"] = json!(boot_id.trim());
    });
    let half = cloud.get(&spec.name).await.unwrap().unwrap();
    assert_eq!(half.state, CloudRunnerState::Error);
    let second = cloud.launch(&spec).await.unwrap();
    bed.wait_for(&spec.name, "home/env").await;
    let shown = cloud.get(&spec.name).await.unwrap().unwrap();
    assert_eq!(
        (shown.state, &shown.native_id),
        (CloudRunnerState::Active, &second.native_id)
    );
    cloud.terminate(&second).await.unwrap();
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_left_frozen_goes_on() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    wait_for_busy(&bed, &manager, &name, false).await;
    let record: Value = serde_json::from_str(&bed.read(&name, "instance.json").unwrap()).unwrap();
    let pid = record["main"]["pid"].as_i64().unwrap();
    let freeze = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let group = freeze
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap();
    let files = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .map(|mount| format!("{mount}{group}/cgroup.freeze"));
    // Never made: without a cgroup of its own the runner is in the root's, which has no such
    // file, and the folder of a mount point would take one.
    let exists = |file: &&String| is_root() && fs::metadata(file).is_ok();
    let file = files.iter().find(exists);
    if let Some(file) = file {
        fs::write(file, "1").unwrap();
    }
    if file.is_none() {
        let stop = std::process::Command::new("kill")
            .args(["-STOP", &pid.to_string()])
            .status();
        assert!(stop.unwrap().success());
    }
    let is_frozen = || match file {
        Some(file) => fs::read_to_string(file).unwrap().trim() == "1",
        None => fs::read_to_string(format!("/proc/{pid}/stat"))
            .unwrap()
            .contains(") T "),
    };
    eventually("the freeze", async || is_frozen().then_some(())).await;
    let again = bed.connect("app").await.unwrap();
    eventually("the thaw", async || {
        again.get_runners(None).await.unwrap();
        (!is_frozen()).then_some(())
    })
    .await;
    delete(&again, &name).await;
    bed.assert_nothing_left();
}

/// A manager that is killed while it stops a runner has signalled some of its processes.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_was_left_stopped_goes_on() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    wait_for_busy(&bed, &manager, &name, false).await;
    let mark = format!("{}/{name}", bed.realm());
    let listener = eventually("the listener", async || {
        let comm = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm"));
        let mut all = processes(&mark).into_iter();
        all.find(|pid| comm(pid).is_ok_and(|comm| comm.trim() == "Runner.Listener"))
    })
    .await;
    let signal = |name: &str| {
        let mut kill = std::process::Command::new("kill");
        let done = kill.args([name, &listener.to_string()]).status();
        assert!(done.unwrap().success());
    };
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{listener}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    signal("-STOP");
    eventually("the stop", async || is_stopped().then_some(())).await;
    let has_cgroup = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .any(|mount| {
            let group = Path::new(mount).join("runner-manager").join(&mark);
            fs::metadata(group).is_ok()
        });
    if has_cgroup {
        // There the manager stops runners by their cgroup: this stop is the job's own.
        signal("-CONT");
    }
    eventually("the listener to go on", async || {
        manager.get_runners(None).await.unwrap();
        (!is_stopped()).then_some(())
    })
    .await;
    delete(&manager, &name).await;
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configurations_say_what_to_do() {
    let bed = Bed::new("idle");
    let broken = bed.work_dir().with_file_name("broken.tar.gz");
    fs::write(&broken, "no archive").unwrap();
    let sum = std::process::Command::new("sha256sum")
        .arg(&broken)
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
    let missing = json!({"runner_dir": "/nonexistent/runner"});
    let wrong_sum = json!({"runner_tarball": broken, "runner_sha256": "0".repeat(64)});
    let corrupt = json!({"runner_tarball": broken, "runner_sha256": sum});
    let absent = json!({"runner_tarball": "/nonexistent/a.tar.gz", "runner_sha256": sum});
    let unknown = json!({"runner_dir": bed.runner_dir(), "colour": 1});
    for (mut section, words) in [
        (missing, "does not exist"),
        (wrong_sum, "another checksum"),
        (corrupt, "corrupt"),
        (absent, "does not exist"),
        (unknown, "colour"),
    ] {
        section["work_dir"] = json!(bed.work_dir());
        let context = runner_manager_core::BackendContext {
            prefix: NamePrefix::new("app").unwrap(),
            timings: runner_manager_core::Timings::default(),
            clock: std::sync::Arc::new(runner_manager_core::SystemClock),
            budgets: runner_manager_core::Budgets::default(),
        };
        let connect = runner_manager_backend_process::BACKEND.connect;
        let error = connect(context, section).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let mut used = bed.section();
    used["work_dir"] = json!(bed.runner_dir());
    let mode = || std::os::unix::fs::MetadataExt::mode(&fs::metadata(bed.runner_dir()).unwrap());
    let before = mode();
    let config = serde_json::from_value(used).unwrap();
    let cloud = runner_manager_backend_process::ProcessCloud::connect(config).await;
    let error = cloud.unwrap_err();
    assert!(error.to_string().contains("holds other things"), "{error}");
    assert_eq!(mode(), before);
    let schema = serde_json::to_value((runner_manager_backend_process::BACKEND.schema)()).unwrap();
    assert!(schema["properties"]["work_dir"].is_object(), "{schema}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_and_no_permission_are_told_apart() {
    let bed = Bed::new("idle").with("min_free_bytes", json!(u64::MAX / 2));
    let manager = bed.connect("app").await.unwrap();
    let error = manager.create_runner(request()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoCapacity, "{error}");
    bed.assert_nothing_left();
    let mut section = bed.section();
    // Root's not in a folder for temporary files: of those each runner has its own.
    let base = if is_root() {
        tempfile::tempdir_in("/run")
    } else {
        tempfile::tempdir()
    };
    let base = base.unwrap();
    let closed = base.path().join("closed");
    fs::create_dir(&closed).unwrap();
    // To root: runners of other users could not pass. To others: nothing can be made there.
    let mode = if is_root() { 0o700 } else { 0o500 };
    fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    section["work_dir"] = json!(closed.join("work"));
    let config = serde_json::from_value(section).unwrap();
    let error = runner_manager_backend_process::ProcessCloud::connect(config)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(error.context("key"), Some("work_dir"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_without_its_controller_is_refused() {
    let offered = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .filter_map(|mount| fs::read_to_string(format!("{mount}/cgroup.controllers")).ok())
        .collect::<String>();
    let bed = Bed::new("idle").with("limits", json!({"memory_bytes": 1_073_741_824}));
    match bed.connect("app").await {
        Ok(manager) => {
            assert!(is_root() && offered.contains("memory"));
            let name = create(&manager).await;
            wait_for_busy(&bed, &manager, &name, false).await;
            delete(&manager, &name).await;
        }
        Err(error) => {
            assert!(!(is_root() && offered.contains("memory")), "{error}");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
    }
    bed.assert_nothing_left();
}
