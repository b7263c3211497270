//! What an operator does with a manager at work.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{Place, REPO};
use runner_manager_github_sim::{JobSpec, JobStatus};
use serde_json::Value;

/// The names of the runners that wait for a job.
fn idle(place: &Place) -> BTreeSet<String> {
    let runners = place.json(&["runners", "list"]);
    let is_idle = |runner: &&Value| runner["state"] == "idle";
    let idle = runners.as_array().unwrap().iter().filter(is_idle);
    idle.map(|runner| runner["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn runners_are_listed_shown_deleted_and_flushed() {
    let place = Place::new("min_idle = 2\nmax = 4").await;
    let stopped = place.command(&["runners", "flush"]);
    assert_eq!(stopped.status.code(), Some(4), "no manager runs");
    assert_eq!(place.json(&["pools", "list"])[0]["max"], 4, "from the file");
    let manager = place.start();
    place
        .until("two are idle", |place| {
            place.path("state/admin.sock").exists() && idle(place).len() == 2
        })
        .await;

    let pools = place.json(&["pools", "list"]);
    assert_eq!(pools[0]["runners"]["idle"], 2);
    assert_eq!(pools[0]["github_error"], Value::Null);
    let before = idle(&place);
    let name = before.first().unwrap();
    let shown = place.json(&["runners", "show", name]);
    let steps: Vec<_> = shown["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["state"].as_str().unwrap())
        .collect();
    assert_eq!(steps, ["requested", "launching", "booting", "idle"]);

    assert!(place.command(&["runners", "delete", name]).status.success());
    assert!(
        place
            .sim
            .runners()
            .iter()
            .all(|runner| runner.name != *name)
    );
    place
        .until("it is replaced", |place| idle(place).len() == 2)
        .await;
    let unknown = place.command(&["runners", "delete", "test-000000000000"]);
    assert_eq!(unknown.status.code(), Some(3));
    let unknown = place.command(&["runners", "flush", "--pool", "nobody"]);
    assert_eq!(unknown.status.code(), Some(3));

    let before = idle(&place);
    let flushed = place.json(&["runners", "flush"]);
    let removed: BTreeSet<String> = serde_json::from_value(flushed["removed"].clone()).unwrap();
    assert_eq!(removed, before);
    place
        .until("they are replaced", |place| idle(place).len() == 2)
        .await;

    let twice = place.start().wait();
    assert_eq!(twice, Some(1), "the state folder is locked");
    assert!(
        place
            .log()
            .contains("another manager uses this state folder"),
        "{}",
        place.log()
    );
    assert_eq!(manager.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_and_a_restart_keep_the_runners() {
    let mut place = Place::new("min_idle = 1\nmax = 4").await;
    let manager = place.start();
    place
        .until("one is idle", |place| {
            place.path("state/admin.sock").exists() && idle(place).len() == 1
        })
        .await;
    let first = idle(&place);

    place.pool = "min_idle = 2\nmax = 1".into();
    place.configure();
    let refused = |place: &Place| place.log().contains("`min_idle` is above `max`");
    place.until("the bad file is refused", refused).await;
    place.pool = "min_idle = 2\nmax = 4".into();
    place.configure();
    place
        .until("two are idle", |place| idle(place).len() == 2)
        .await;
    assert!(idle(&place).is_superset(&first), "the runner was kept");

    let before = idle(&place);
    assert_eq!(manager.terminate(), Some(0));
    assert_eq!(place.sim.runners().len(), 2, "runners outlive the manager");
    let manager = place.start();
    place
        .until("they are taken up", |place| {
            place.path("state/admin.sock").exists()
                && place.json(&["pools", "list"])[0]["runners"]["idle"] == 2
        })
        .await;
    assert_eq!(idle(&place), before);
    assert_eq!(place.sim.registrations_created(), 2);

    place.pool = "max = 0\nidle_timeout_seconds = 0".into();
    place.configure();
    place.until("nothing is left", Place::is_empty).await;
    assert_eq!(manager.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_spill_to_the_next_pool_when_the_first_is_full() {
    let mut place = Place::new("max = 1\npriority = 5\nidle_timeout_seconds = 1").await;
    place.more = place.another_pool("spill", "max = 1\nidle_timeout_seconds = 1");
    place.configure();
    let manager = place.start();
    for _ in 0..2 {
        let job = JobSpec::new(REPO, &["test"]).lasting(Duration::from_secs(60));
        place.sim.queue_job(job).unwrap();
    }
    let both_run = |place: &Place| {
        let jobs = place.sim.jobs();
        jobs.iter().all(|job| job.status == JobStatus::InProgress)
    };
    place.until("both jobs run", both_run).await;
    let runners = place.sim.runners();
    let of = |prefix: &str| {
        runners
            .iter()
            .filter(|r| r.name.starts_with(prefix))
            .count()
    };
    assert_eq!((of("test-"), of("spill-")), (1, 1), "{runners:?}");
    let flushed = place.json(&["runners", "flush", "--busy"]);
    assert_eq!(flushed["removed"].as_array().unwrap().len(), 2);
    // GitHub lets go of their registrations once it has noticed.
    place.until("nothing is left", Place::is_empty).await;
    assert_eq!(manager.terminate(), Some(0));
}
