//! What a runner gets, and what it cannot do.

use std::fs;
use std::os::unix::fs::MetadataExt;

use runner_manager_core::{CloudRunnerState, CreateRunner, HealthState};
use serde_json::json;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_new_and_the_arguments_hold_no_secret() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    wait_for_busy(&bed, &manager, &name, false).await;
    let env = bed.wait_for(&name, "home/env").await;
    let keys: Vec<&str> = env
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    // Cargo sets this one for every test: it stands for any secret of the manager's.
    assert!(std::env::vars().count() > 3);
    assert!(
        !keys.contains(&"CARGO_MANIFEST_DIR") && !keys.contains(&"CARGO"),
        "{keys:?}"
    );
    assert!(
        env.contains(&format!("ACTIONS_RUNNER_INPUT_JITCONFIG={JIT}\n")),
        "{keys:?}"
    );
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&arguments).contains(JIT),
            "{:?}",
            entry.path()
        );
    }
    let record = bed.read(&name, "instance.json").unwrap();
    assert!(!record.contains(JIT));
    let mode = fs::metadata(bed.folder(&name).join("instance.json"))
        .unwrap()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    delete(&manager, &name).await;
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_configures_and_no_process_keeps_it() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let request = CreateRunner {
        credential: token_credential(),
        ..request()
    };
    let id = manager.create_runner(request).await.unwrap();
    let name = manager.name_prefix().runner_name(&id);
    bed.wait_for(&name, "home/env").await;
    let arguments = bed.wait_for(&name, "home/config-args").await;
    let want = format!(
        "--unattended\n--ephemeral\n--name\n{name}\n--labels\nlinux,x64,a@b=c\n--url\n\
         https://github.com/octo\n--runnergroup\nmy group; $(id)\n"
    );
    assert_eq!(arguments, want);
    assert_eq!(bed.wait_for(&name, "home/config-token").await.trim(), TOKEN);
    wait_for_busy(&bed, &manager, &name, false).await;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for file in ["cmdline", "environ"] {
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(!text.contains(TOKEN), "{:?}/{file}", entry.path());
        }
    }
    delete(&manager, &name).await;
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_runner_has_its_own_place_and_the_shared_folder_stays_as_it_is() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let (a, b) = (create(&manager).await, create(&manager).await);
    for name in [&a, &b] {
        wait_for_busy(&bed, &manager, name, false).await;
        bed.wait_for(name, "home/uid").await;
        assert!(bed.folder(name).join("runner/.runner").exists());
        let tool = fs::metadata(bed.folder(name).join("runner/bin/Runner.Worker")).unwrap();
        let externals = bed.wait_for(name, "home/externals").await;
        assert_eq!(externals.trim(), "node");
        if is_root() {
            assert_eq!(
                (tool.uid(), tool.mode() & 0o022),
                (0, 0),
                "{name} may change it"
            );
            // `/tmp` is the runner's own.
            assert!(bed.folder(name).join("tmp/of-a-job").exists());
            let user = bed.wait_for(name, "home/user").await;
            let uid = bed.wait_for(name, "home/uid").await;
            assert_eq!(user.trim(), format!("runner-{}", uid.trim()));
            let home = fs::metadata(bed.folder(name).join("home")).unwrap();
            assert_eq!(
                (home.uid().to_string(), home.mode() & 0o777),
                (uid.trim().into(), 0o700)
            );
        }
    }
    let mut shared: Vec<_> = fs::read_dir(bed.runner_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    shared.sort();
    assert_eq!(shared, ["bin", "config.sh", "externals", "run.sh"]);
    assert_eq!(flush(&manager, false).await.len(), 2);
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_hosts_runners_as_a_folder_does() {
    let bed = Bed::new("idle");
    let archive = bed.work_dir().with_file_name("runner.tar.gz");
    let mut tar = std::process::Command::new("tar");
    tar.arg("-C")
        .arg(bed.runner_dir())
        .arg("-czf")
        .arg(&archive)
        .arg(".");
    assert!(tar.status().unwrap().success());
    let digest = <sha2::Sha256 as sha2::Digest>::digest(fs::read(&archive).unwrap());
    let sha256: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let bed = bed
        .with("runner_tarball", json!(archive))
        .with("runner_sha256", json!(sha256));
    let (manager, other) = tokio::join!(bed.connect("app"), bed.connect("app-1"));
    let (manager, other) = (manager.unwrap(), other.unwrap());
    let (a, b) = (create(&manager).await, create(&other).await);
    for (manager, name) in [(&manager, &a), (&other, &b)] {
        wait_for_busy(&bed, manager, name, false).await;
        assert_eq!(bed.wait_for(name, "home/externals").await.trim(), "node");
        delete(manager, name).await;
    }
    let shared = bed
        .work_dir()
        .join(".runner")
        .join(sha256.to_ascii_lowercase());
    assert_eq!(
        fs::metadata(shared.join("run.sh")).unwrap().mode() & 0o777,
        0o555
    );
    assert!(!shared.join(".runner").exists());
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_pipes_in_the_exchange_are_refused() {
    let bed = Bed::new("attack");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    eventually("the attack", async || {
        let closed = fs::symlink_metadata(bed.folder(&name).join("home/closed")).ok()?;
        (closed.mode() & 0o777 == 0).then_some(())
    })
    .await;
    let metrics = delete(&manager, &name).await;
    let files: Vec<&str> = metrics.set_aside.iter().map(|aside| aside.file).collect();
    assert_eq!(
        files,
        ["runner-installed.timestamp", "pre-job-metrics.json"]
    );
    assert!(metrics.installed_at.is_none() && metrics.pre_job.is_none());
    bed.assert_nothing_left();
    assert!(fs::metadata("/etc/passwd").is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_fills_the_disk_is_removed() {
    let bed = Bed::new("fill").with("max_disk_bytes", json!(2_000_000));
    let manager = bed.connect("app").await.unwrap();
    let small = Bed::new("fill").with("max_disk_bytes", json!(200_000_000));
    let roomy = small.connect("app").await.unwrap();
    let (name, other) = (create(&manager).await, create(&roomy).await);
    // Looks are spaced: the first must come after the file is written.
    for (bed, name) in [(&bed, &name), (&small, &other)] {
        eventually("the file", async || {
            let big = fs::metadata(bed.folder(name).join("home/big")).ok()?;
            (big.len() == 3_000_000).then_some(())
        })
        .await;
    }
    let runner = manager
        .get_runner(name.instance_id())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (runner.state, runner.health),
        (CloudRunnerState::Error, HealthState::Unhealthy)
    );
    assert_eq!(cleanup(&manager).await.len(), 1);
    assert!(cleanup(&roomy).await.is_empty());
    delete(&roomy, &other).await;
    bed.assert_nothing_left();
    small.assert_nothing_left();
    let log = bed.work_dir().join(format!("failed/{name}.log"));
    assert!(fs::read_to_string(log).unwrap().contains("over disk"));
}
