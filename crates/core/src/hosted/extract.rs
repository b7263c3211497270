//! Metrics, read before the instance goes.

use std::time::Duration;

use super::HostedRunners;
use crate::{
    Cloud, CloudInstance, ErrorKind, ExchangeFile, Guest, GuestFile, Result, RunnerMetrics,
    SetAside, Support,
};

/// How often a file is read whose reading breaks off: it can be read again as long as the
/// instance lives, and never after.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

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
                metrics.take(file, read(guest.as_ref(), file).await?);
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

async fn read(guest: &dyn Guest, file: ExchangeFile) -> Result<GuestFile> {
    for _ in 1..ATTEMPTS {
        match guest.read_file(file).await {
            Err(error) if error.kind() == ErrorKind::Unreachable => {
                tracing::debug!(?file, %error, "cannot read a file of an instance; again");
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
    guest.read_file(file).await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::{Error, GuestProbe, StopMode, StopOutcome};

    /// Its connection breaks so many times.
    struct Shaky(ErrorKind, AtomicU32);

    #[async_trait]
    impl Guest for Shaky {
        async fn probe(&self) -> Result<GuestProbe> {
            unreachable!("nobody asks")
        }

        async fn stop_runner(&self, _: StopMode) -> Result<StopOutcome> {
            unreachable!("nobody asks")
        }

        async fn read_file(&self, _: ExchangeFile) -> Result<GuestFile> {
            match self.1.fetch_sub(1, Ordering::Relaxed) {
                0 => Ok(GuestFile::Absent),
                _ => Err(Error::new(self.0, "the connection broke")),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_off_is_read_again_a_few_times() {
        for (kind, breaks, works) in [
            (ErrorKind::Unreachable, 0, true),
            (ErrorKind::Unreachable, 2, true),
            (ErrorKind::Unreachable, 3, false),
            (ErrorKind::PermissionDenied, 1, false),
        ] {
            let guest = Shaky(kind, AtomicU32::new(breaks));
            let answer = read(&guest, ExchangeFile::PreJob).await;
            assert_eq!(answer.is_ok(), works, "{kind:?} {breaks}");
        }
    }
}
