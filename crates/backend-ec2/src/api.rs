//! The one way to the APIs: a permit of the budget before each call, few and spaced attempts.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use runner_manager_core::{Budget, Error, ErrorKind, Result, Retry};

use crate::classify;

/// How often one call is made at most.
const ATTEMPTS: u32 = 3;

/// When a call that was throttled each time may be worth another try. EC2 does not say.
const THROTTLED: Duration = Duration::from_secs(5);

/// The clients of one account and region.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    /// EC2's own.
    pub(crate) ec2: aws_sdk_ec2::Client,
    /// That of Systems Manager.
    pub(crate) ssm: aws_sdk_ssm::Client,
    /// What all pools of the account and region share.
    pub(crate) budget: Arc<Budget>,
    /// The same for the calls of Systems Manager.
    pub(crate) ssm_budget: Arc<Budget>,
}

impl Api {
    /// Makes a call of EC2. It may be made again after throttling or a lost answer, so that it
    /// has to be one that takes effect once however often it is made: a look, an end, or a launch
    /// with a client token.
    ///
    /// # Errors
    /// What EC2 says, mapped.
    pub(crate) async fn call<T, E, F>(
        &self,
        operation: &'static str,
        send: impl Fn() -> F + Send + Sync,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, SdkError<E>>> + Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        T: Send,
    {
        spend(&self.budget, operation, send).await
    }

    /// The same for Systems Manager, which counts its calls apart.
    ///
    /// # Errors
    /// What it says, mapped.
    pub(crate) async fn call_ssm<T, E, F>(
        &self,
        operation: &'static str,
        send: impl Fn() -> F + Send + Sync,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, SdkError<E>>> + Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        T: Send,
    {
        spend(&self.ssm_budget, operation, send).await
    }
}

async fn spend<T, E, F>(
    budget: &Budget,
    operation: &'static str,
    send: impl Fn() -> F + Send + Sync,
) -> Result<T>
where
    F: Future<Output = Result<T, SdkError<E>>> + Send,
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    T: Send,
{
    let mut attempts = 1;
    loop {
        let request = async { send().await.map_err(classify::of_sdk) };
        let error = match budget.spend(request).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error.with_context("call", operation),
        };
        let passes = matches!(
            error.kind(),
            ErrorKind::RateLimited | ErrorKind::Unreachable | ErrorKind::TimedOut
        );
        if !passes {
            return Err(error);
        }
        if attempts == ATTEMPTS {
            let retry = match error.kind() {
                ErrorKind::RateLimited => Retry::After(THROTTLED),
                _ => Retry::Exhausted { attempts },
            };
            return Err(error.with_retry(retry));
        }
        tracing::debug!(operation, attempts, %error, "make a call again");
        tokio::time::sleep(pause(attempts)).await;
        attempts += 1;
    }
}

/// 0.4 s, 0.8 s, each less up to a half, so that many callers do not come back together.
fn pause(attempts: u32) -> Duration {
    let whole = Duration::from_millis(200) * 2_u32.pow(attempts.min(6));
    whole.mul_f64(rand::random_range(0.5..=1.0))
}

/// EC2 answers a dry run by an error.
pub(crate) fn is_dry_run(error: &Error) -> bool {
    error.context("code") == Some("DryRunOperation")
}
