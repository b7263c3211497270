//! Metrics, read before the instance goes.

use super::HostedRunners;
use crate::{Cloud, CloudInstance, ExchangeFile, RunnerMetrics, SetAside, Support};

impl<C: Cloud> HostedRunners<C> {
    /// Reads what the runner left. Never fails: what cannot be read is set aside.
    pub(super) async fn extract(&self, instance: &CloudInstance) -> RunnerMetrics {
        let mut metrics = RunnerMetrics::new(instance.name.clone(), instance.created_at);
        if matches!(self.cloud.capability().guest, Support::Unsupported(_)) {
            return metrics;
        }
        let read = async {
            let guest = self.cloud.guest(instance).await?;
            for file in [
                ExchangeFile::Installed,
                ExchangeFile::PreJob,
                ExchangeFile::PostJob,
            ] {
                metrics.take(file, guest.read_file(file).await?);
            }
            Ok(())
        };
        if let Err(error) = self
            .within(self.timings.guest_timeout, "extract metrics", read)
            .await
        {
            metrics.set_aside.push(SetAside {
                file: "all others",
                reason: error.to_string(),
            });
        }
        metrics
    }
}
