//! What webhooks tell, on its way to the store and to the watchers.

use runner_manager_core::Result;
use runner_manager_github::JobEvent;

use crate::Fleet;
use crate::job_log::row;
use crate::route::route;

impl Fleet {
    /// Takes a `workflow_job` event. Once this returns, the event is stored; the pools act on it
    /// at once. A delivery that was taken before changes nothing, and so does news that is older
    /// than what is known. Jobs that are for no pool are remembered when they ask for
    /// `self-hosted`, or have no labels.
    ///
    /// # Errors
    /// When the event cannot be stored: it should be delivered again.
    pub async fn deliver(&self, delivery: &str, mut event: JobEvent) -> Result<()> {
        let job = &event.job;
        let repository = format!("{}/{}", job.owner, job.repo);
        let routes = self.routes();
        let mut scopes: Vec<&str> = routes
            .iter()
            .filter(|route| route.covers(&repository))
            .map(|route| route.scope.as_str())
            .collect();
        scopes.sort_unstable();
        scopes.dedup();
        let pool = route(&routes, &repository, &job.labels);
        let wants_self_hosted = |label: &String| label.eq_ignore_ascii_case("self-hosted");
        // One without labels asks for nobody, which its user may want to know.
        let is_of_others = !job.labels.is_empty() && !job.labels.iter().any(wants_self_hosted);
        if pool.is_none() && is_of_others {
            return Ok(());
        }
        let (store, now) = self.stored();
        let row = row(job, pool.map(str::to_owned));
        let Some(status) = store.take_delivery(delivery, now, &row).await? else {
            tracing::debug!(delivery, job = job.id, "a webhook came again");
            return Ok(());
        };
        tracing::info!(
            job = job.id,
            pool,
            repository,
            status = status.as_str(),
            "webhook"
        );
        // News may come out of order: what counts is how far the job is known to have come.
        status.as_str().clone_into(&mut event.job.status);
        self.tell(&scopes, &event).await;
        Ok(())
    }
}
