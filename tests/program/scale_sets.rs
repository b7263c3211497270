//! A pool that follows its runner scale set.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runner_manager_github_sim::{
    Conclusion, FaultAction, FaultRule, JobOffer, JobSpec, JobStatus, JobView,
};
use serde_json::Value;

use crate::support::{Place, REPO};

const JOBS: usize = 20;

fn queue(place: &Place, many: usize) -> Vec<u64> {
    let queue = |_| {
        let spec = JobSpec::new(REPO, &["test"]).lasting(Duration::from_millis(300));
        place.sim.queue_job(spec).unwrap()
    };
    (0..many).map(queue).collect()
}

fn done(place: &Place) -> usize {
    let done = |job: &&JobView| job.status == JobStatus::Completed;
    place.sim.jobs().iter().filter(done).count()
}

fn listens(place: &Place) -> bool {
    place.sim.scale_sets().iter().any(|set| set.owner.is_some())
}

async fn place() -> Place {
    place_with(JobOffer::Assigned).await
}

/// A place whose manager looks at lists every ten minutes: the scale set tells all else.
async fn place_with(offer: JobOffer) -> Place {
    let keys = "max = 4\nidle_timeout_seconds = 1\nscale_set = {}";
    let mut place = Place::with(keys, None, offer).await;
    place.poll = 600_000;
    place.configure();
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_jobs_are_served_once_each_although_the_manager_is_killed() {
    let place = place().await;
    queue(&place, JOBS);
    let mut manager = place.start();
    place
        .until("some jobs are done", |place| done(place) >= 5)
        .await;
    manager.kill();
    let before = done(&place);
    assert!(before < JOBS, "the kill came too late");
    // Jobs end while nobody listens, and the next listener's first acknowledgement is lost.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let lost = FaultRule::new("/messages/", 1, FaultAction::DropAfterEffect);
    place.sim.fault(lost.method("DELETE"));
    let manager = place.start();
    place
        .until("all jobs are done", |place| done(place) == JOBS)
        .await;
    place.until("nothing is left", Place::is_empty).await;
    let jobs = place.sim.jobs();
    let won = |job: &&JobView| job.conclusion == Some(Conclusion::Success);
    assert_eq!(jobs.iter().filter(won).count(), JOBS, "{jobs:?}");
    let runners: BTreeSet<_> = jobs.iter().map(|job| &job.runner_name).collect();
    assert_eq!(runners.len(), JOBS, "a runner served twice");

    // What the queue told is stored, and the time of each job is explained.
    let told = |place: &Place| {
        let jobs = place.json(&["jobs", "list"]);
        let done = |job: &Value| job["status"] == "completed" && job["runner"].is_string();
        let jobs = jobs.as_array().unwrap();
        jobs.len() == JOBS && jobs.iter().all(done)
    };
    place.until("all jobs are known to be done", told).await;
    let why = place.json(&["jobs", "why", &jobs[JOBS - 1].id.to_string()]);
    assert_eq!(why["stages"].as_array().unwrap().len(), 6, "{why}");
    assert_eq!(why["job"]["pool"], "test");

    let set = &place.sim.scale_sets()[0];
    assert_eq!((set.name.as_str(), set.capacity), ("test", 4));
    assert_eq!(set.unacknowledged, 0);
    assert!(set.owner.is_some());
    assert_eq!(manager.terminate(), Some(0));
    assert_eq!(place.sim.scale_sets()[0].owner, None, "the session is open");

    let mut calls = BTreeMap::<String, usize>::new();
    for exchange in place.sim.exchanges() {
        let path = exchange.path.split('?').next().unwrap_or_default();
        if path.starts_with("/api/v3/") {
            let kind = path.trim_end_matches(|c: char| c.is_ascii_digit() || c == '/');
            *calls
                .entry(format!("{} {kind}", exchange.method))
                .or_default() += 1;
        }
    }
    let rest: usize = calls.values().sum();
    println!("scale set test: {rest} calls of the REST API for {JOBS} jobs: {calls:?}");
    assert!(rest <= JOBS, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_refused_holds_up_no_other_job() {
    let place = place_with(JobOffer::Alternating).await;
    let manager = place.start();
    place.until("somebody listens", listens).await;
    for status in [403, 500] {
        let refused = FaultRule::new("/acquirejobs", u32::MAX, FaultAction::status(status));
        place.sim.fault(refused.method("POST"));
        let before = done(&place);
        // Every other one has to be acquired.
        queue(&place, 2);
        let assigned = |place: &Place| done(place) > before;
        place
            .until("the job that is assigned is done", assigned)
            .await;
        place.sim.clear_faults();
        let both = |place: &Place| done(place) == before + 2;
        place.until("the other one is acquired later", both).await;
    }
    assert_eq!(manager.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_listener_is_waited_for_and_told() {
    let place = place().await;
    let first = place.start();
    place.until("somebody listens", listens).await;
    assert_eq!(first.terminate(), Some(0));
    // Every attempt to open a session is refused, as by one of another manager.
    let conflict = FaultRule::new("/sessions", u32::MAX, FaultAction::status(409));
    place.sim.fault(conflict.method("POST"));
    let manager = place.start();
    let told = |place: &Place| {
        let pools = place.json(&["pools", "list"]);
        let error = pools[0]["source_error"].as_str().unwrap_or_default();
        error.contains("another listener has the scale set's session")
    };
    place.until("the conflict is told", told).await;
    queue(&place, 2);
    place.sim.clear_faults();
    place
        .until("the jobs are done", |place| done(place) == 2)
        .await;
    assert_eq!(manager.terminate(), Some(0));
}
