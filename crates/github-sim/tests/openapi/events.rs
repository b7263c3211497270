//! Webhooks and the list of their deliveries.

use crate::description::description;
use crate::webhooks::play;

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_and_deliveries_are_as_github_describes_them() {
    let (played, description) = (play().await, description());
    for (.., body) in &played.events {
        let action = body["action"].as_str().unwrap().replace('_', "-");
        description.check_webhook(&format!("workflow-job-{action}"), body);
    }
    description.check(
        "GET",
        "/app/hook/deliveries",
        200,
        &played.deliveries().await,
    );
}
