//! Runners that look online and idle, and are given no job.

use runner_manager_github_sim::{JobSpec, JobView};
use serde_json::Value;

use crate::support::{Place, REPO};

fn is_done(job: &JobView) -> bool {
    job.conclusion.is_some()
}

/// The circuit `no_jobs` of the pool, if it has one.
fn circuit(place: &Place) -> Option<Value> {
    let pools = place.json(&["pools", "list"]);
    let circuits = pools[0]["circuits"].as_array()?.clone();
    circuits.into_iter().find(|one| one["class"] == "no_jobs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_beside_a_runner_that_is_given_none_gets_another() {
    // Full with the runner that takes no job, so that it has to go first.
    let place = Place::new("min_idle = 1\nmax = 1\nsuspect_after_seconds = 1").await;
    place.sim.make_ghosts(true);
    let manager = place.start();
    let online = |place: &Place| place.sim.runners().iter().any(|runner| runner.online);
    place.until("a runner waits", online).await;
    let ghost = place.sim.runners().remove(0);
    place.sim.make_ghosts(false);

    let job = place.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
    let served = |place: &Place| place.sim.jobs().iter().all(is_done);
    place.until("the job is done", served).await;
    let runners = place.sim.runners();
    assert!(runners.iter().all(|runner| runner.id != ghost.id));

    let failures = place.json(&["failures", "list"]);
    let failure = &failures[0];
    assert_eq!(failure["class"], "no_jobs", "{failures}");
    assert_eq!(failure["runner"], ghost.name.as_str());
    let told = |place: &Place| {
        let why = place.json(&["jobs", "why", &job.to_string()]);
        let blame = why["stages"][0]["blame"].as_str().unwrap_or_default();
        blame.starts_with("GitHub: runners that match it")
    };
    place.until("`jobs why` tells of it", told).await;
    let troubled = circuit(&place).is_some_and(|one| one["state"] != "closed");
    assert!(!troubled, "one suspect alone holds nothing back");
    assert_eq!(manager.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn assigned_jobs_that_no_runner_begins_are_no_reason_to_launch_for_ever() {
    let place = Place::new("max = 3\nscale_set = {}\nsuspect_after_seconds = 1").await;
    place.sim.make_ghosts(true);
    let manager = place.start();
    let listens = |place: &Place| place.sim.scale_sets().iter().any(|set| set.owner.is_some());
    place.until("somebody listens", listens).await;
    for _ in 0..2 {
        place.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
    }
    let open = |place: &Place| circuit(place).is_some_and(|one| one["state"] == "open");
    place.until("the circuit opens", open).await;
    let launched = place.sim.registrations_created();
    assert!(launched <= 8, "{launched} were launched for two jobs");
    assert_eq!(manager.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_runners_are_all_given_no_job_stops_launching() {
    let place = Place::new("max = 2\nsuspect_after_seconds = 1").await;
    place.sim.make_ghosts(true);
    let manager = place.start();
    place.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
    let online = |place: &Place| place.sim.runners().iter().any(|runner| runner.online);
    place.until("a runner waits", online).await;
    let open = |place: &Place| circuit(place).is_some_and(|one| one["state"] == "open");
    place.until("the circuit opens", open).await;
    let launched = place.sim.registrations_created();
    assert!(launched <= 5, "{launched} were launched for one job");
    assert_eq!(manager.terminate(), Some(0));
}
