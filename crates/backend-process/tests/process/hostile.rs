//! Jobs that hold up the manager, try to outlive their runner, or leave something to the next one.

use std::fs;
use std::io::Write;
use std::time::Instant;

use keyutils::Keyring;
use keyutils::keytypes::User;
use runner_manager_core::CloudRunnerState;
use serde_json::json;

use crate::attacks::{compile, is_alive};
use crate::support::*;

/// Whether this is root. If not, standard error says so, past what the harness captures.
fn has_root(case: &str) -> bool {
    if !is_root() {
        let line = format!("needs root, for without it all runners are one user: {case}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    is_root()
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_on_the_files_that_the_manager_reads_hold_up_nobody() {
    let bed = Bed::new("leases");
    compile(&bed, "leases", include_str!("attacks/leases.c"));
    let manager = bed.connect("app").await.unwrap();
    let other = bed.connect("other").await.unwrap();
    let name = create(&manager).await;
    bed.wait_for(&name, "home/leases").await;
    let before = Instant::now();
    eventually("the end of the main process", async || {
        let runners = manager.get_runners(None).await.unwrap();
        (runners[0].state == CloudRunnerState::Error).then_some(())
    })
    .await;
    let metrics = delete(&manager, &name).await;
    // The kernel breaks a lease after 45 seconds: no wait was of that kind.
    assert!(before.elapsed().as_secs() < 40);
    assert!(metrics.post_job.is_none() && metrics.pre_job.is_none());
    assert!(other.get_runners(None).await.unwrap().is_empty());
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_kills_every_helper_of_its_user_goes_with_its_runner() {
    if !has_root("a_chain_that_kills_every_helper") {
        return;
    }
    let bed = Bed::new("killers");
    compile(&bed, "killers", include_str!("attacks/killers.c"));
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    bed.wait_for(&name, "home/killers").await;
    eventually("the end of all but the chain", async || {
        let all = processes(&format!("{}/", bed.realm()));
        let comm = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let left = all
            .iter()
            .map(comm)
            .any(|comm| comm.trim() == "Runner.Listener");
        (!left).then_some(())
    })
    .await;
    delete(&manager, &name).await;
    bed.assert_nothing_left();
}

/// Without root such a process carries no mark that the manager may read.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_a_readable_name_goes_with_its_runner() {
    if !has_root("a_process_without_a_readable_name") {
        return;
    }
    let bed = Bed::new("named");
    compile(&bed, "named", include_str!("attacks/named.c"));
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    let pid = bed.wait_for(&name, "home/named").await;
    let pid = pid.trim();
    assert!(is_alive(pid), "the process does not run");
    delete(&manager, &name).await;
    assert!(!is_alive(pid), "the process outlives its runner");
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cannot_hold_up_the_removal_of_another_that_gave_it_a_folder() {
    if !has_root("a_job_cannot_hold_up_the_removal") {
        return;
    }
    let bed = Bed::new("accomplice");
    compile(&bed, "accomplice", include_str!("attacks/accomplice.c"));
    let manager = bed.connect("app").await.unwrap();
    let taker = create(&manager).await;
    wait_for_busy(&bed, &manager, &taker, false).await;
    let giver = create(&manager).await;
    bed.wait_for(&giver, "home/gave").await;
    bed.wait_for(&taker, "home/took").await;
    eventually("files of the other job", async || {
        bed.folder(&giver)
            .join("home/given/of-another-100")
            .exists()
            .then_some(())
    })
    .await;
    delete(&manager, &giver).await;
    assert!(!bed.folder(&giver).exists());
    delete(&manager, &taker).await;
    bed.assert_nothing_left();
}

/// The kernel keeps the keyrings of a user when its last process has ended.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_runner_of_a_user_finds_no_key_of_the_last() {
    if !has_root("the_next_runner_of_a_user_finds_no_key") {
        return;
    }
    // One user, and apart from those of other tests: the second runner must get that of the first.
    let bed = Bed::new("keys")
        .with("first_uid", json!(66_000 + std::process::id() % 3_000))
        .with("uid_count", json!(1));
    compile(&bed, "keys", include_str!("attacks/keys.c"));
    let manager = bed.connect("app").await.unwrap();
    for _ in 0..2 {
        let name = create(&manager).await;
        let keys = bed.wait_for(&name, "home/keys").await;
        assert_eq!(keys, "user none\nsession none\nleft one\n");
        delete(&manager, &name).await;
    }
    bed.assert_nothing_left();
}

/// A manager that was started from a login has the session keyring of that login.
#[test]
fn a_job_finds_no_key_of_its_managers_session() {
    if !has_root("a_job_finds_no_key_of_its_managers_session") {
        return;
    }
    // Keyrings belong to threads, which hand them on to the threads that they start.
    let manager = std::thread::spawn(|| {
        let mut session = Keyring::join_anonymous_session().unwrap();
        let secret = &b"secret"[..];
        let added = session.add_key::<User, _, _>("of-the-manager", secret);
        added.unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let bed = Bed::new("keys");
            compile(&bed, "keys", include_str!("attacks/keys.c"));
            let manager = bed.connect("app").await.unwrap();
            let name = create(&manager).await;
            let keys = bed.wait_for(&name, "home/keys").await;
            assert!(keys.contains("session none"), "{keys}");
            delete(&manager, &name).await;
            bed.assert_nothing_left();
        });
    });
    manager.join().unwrap();
}
