//! Jobs that hold up the manager, or that try to outlive their runner.

use std::time::Instant;

use runner_manager_core::CloudRunnerState;

use crate::attacks::compile;
use crate::support::*;

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
