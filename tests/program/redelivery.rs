//! The webhook is installed by a command, and what it fails to deliver comes again.

use std::fs;
use std::net::TcpListener as Free;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runner_manager_github_sim::{JobSpec, JobStatus};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Place, REPO};

const JOBS: usize = 3;

/// A way to the manager that can be shut: what comes then is dropped.
async fn door(to: u16) -> (u16, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let is_open = open.clone();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            if !is_open.load(Ordering::SeqCst) {
                continue;
            }
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(("127.0.0.1", to)).await {
                    // Either side may hang up.
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    (port, open)
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_were_missed_are_found_by_redelivery() {
    let listen = {
        let free = Free::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let (port, open) = door(listen).await;
    let mut place = Place::new("max = 2\nidle_timeout_seconds = 1").await;
    let secret = place.path("secret");
    fs::write(&secret, "a secret of this test").unwrap();
    place.poll = 600_000;
    place.more = format!("[webhook]\nlisten = \"127.0.0.1:{listen}\"\nsecret_file = {secret:?}");
    place.configure();
    let output = place.command(&["webhook", "install"]);
    assert_eq!(output.status.code(), Some(2), "there is no address");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("set `url` in `[webhook]`"), "{told}");
    place.more +=
        &format!("\nurl = \"http://127.0.0.1:{port}/webhook\"\nredelivery_interval_seconds = 1");
    place.configure();
    let output = place.command(&["webhook", "ping"]);
    assert_eq!(output.status.code(), Some(1), "there is no webhook yet");
    let outcome = |place: &Place| {
        let rows = place.json(&["webhook", "install"]);
        assert_eq!(rows[0]["webhook"], REPO, "{rows}");
        rows[0]["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome(&place), "made");
    assert!(outcome(&place).starts_with("was right"));

    let manager = place.start();
    place
        .until("the first look is taken", |place| {
            let looks = place.sim.exchanges();
            looks.iter().any(|e| e.path.contains("/actions/runs?"))
        })
        .await;
    for _ in 0..JOBS {
        place.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
    }
    // Each was sent, and nobody was there.
    place
        .until("GitHub is asked to send them again", |place| {
            let asked = place.sim.exchanges();
            let asked = asked.iter().filter(|e| e.path.ends_with("/attempts"));
            asked.count() >= JOBS
        })
        .await;
    assert!(place.sim.runners().is_empty(), "nothing was heard");
    open.store(true, Ordering::SeqCst);
    place
        .until("the jobs are done", |place| {
            let jobs = place.sim.jobs();
            jobs.iter().all(|job| job.status == JobStatus::Completed)
        })
        .await;
    place.until("nothing is left", Place::is_empty).await;
    assert_eq!(place.command(&["webhook", "ping"]).status.code(), Some(0));
    let looks = place.sim.exchanges();
    let looks = looks.iter().filter(|e| e.path.contains("/actions/runs?"));
    assert!(looks.count() <= 5, "the poll found them");
    assert_eq!(manager.terminate(), Some(0));
}
