//! The manager is killed at random moments, again and again, while jobs go through.

use std::fs;
use std::time::Duration;

use crate::support::{Place, REPO};
use runner_manager_github_sim::{Conclusion, JobSpec, JobStatus, JobView};

const KILLS: u32 = 50;
const JOBS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_lose_no_job_and_leave_nothing() {
    let place = Place::new("max = 4\nidle_timeout_seconds = 1").await;
    for _ in 0..JOBS {
        let spec = JobSpec::new(REPO, &["self-hosted", "test"]);
        let spec = spec.lasting(Duration::from_millis(300));
        place.sim.queue_job(spec).unwrap();
    }
    let mut most = 0;
    for _ in 0..KILLS {
        let mut manager = place.start();
        let moment = Duration::from_millis(rand::random_range(20..800));
        tokio::time::sleep(moment).await;
        most = most.max(place.sim.runners().len());
        manager.kill();
    }
    let mut manager = place.start();
    let done = |job: &JobView| job.status == JobStatus::Completed;
    let over = |place: &Place| place.sim.jobs().iter().all(done) && place.is_empty();
    place
        .until("all jobs are done and nothing is left", over)
        .await;
    manager.kill();
    let jobs = place.sim.jobs();
    let won = |job: &&JobView| job.conclusion == Some(Conclusion::Success);
    let succeeded = jobs.iter().filter(won).count();
    println!(
        "kill test: {KILLS} kills, {succeeded} of {JOBS} jobs succeeded, {} registrations made, at most {most} at once, left: {} registrations, {} folders, {} processes",
        place.sim.registrations_created(),
        place.sim.runners().len(),
        place.folders(),
        place.processes()
    );
    assert_eq!(succeeded, JOBS, "jobs were lost");
    let log = fs::read_to_string(place.path("log")).unwrap();
    let refused = log.lines().find(|line| line.contains("cannot become"));
    assert_eq!(refused, None, "a step was not of the state machine");
    assert!(most <= 4, "{most} runners at once where 4 are the most");
}
