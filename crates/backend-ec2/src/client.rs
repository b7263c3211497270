//! From the section to clients: region, credentials, time-outs, the shared budget.

use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::SharedCredentialsProvider;
use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::config::timeout::TimeoutConfig;
use runner_manager_core::{BudgetLimits, Budgets, Error, ErrorKind, Result};

use crate::api::Api;
use crate::classify;
use crate::config::{AssumeRole, Ec2Config};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long one attempt of a call may take.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Finds credentials, and asks whose they are.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] without a region, [`ErrorKind::Unauthenticated`] without
/// credentials that work.
pub(crate) async fn connect(config: &Ec2Config, budgets: &Budgets) -> Result<Api> {
    let mut shared = load(config).await;
    let Some(region) = shared.region().map(ToString::to_string) else {
        let message = "is missing, and neither the environment nor the profile names one";
        return Err(Error::new(ErrorKind::InvalidConfig, message).with_context("key", "region"));
    };
    if let Some(role) = &config.assume_role {
        shared = assume(&shared, role).await;
    }
    let account = account(&shared).await?;
    let address = config
        .endpoint_url
        .as_ref()
        .map_or_else(String::new, ToString::to_string);
    let limits = BudgetLimits {
        rate: f64::from(config.calls_per_second),
        burst: config.calls_per_second,
        ..BudgetLimits::default()
    };
    Ok(Api {
        ec2: aws_sdk_ec2::Client::new(&shared),
        ssm: aws_sdk_ssm::Client::new(&shared),
        budget: budgets.of(&format!("ec2 {account} {region} {address}"), limits),
        ssm_budget: budgets.of(&format!("ssm {account} {region} {address}"), limits),
    })
}

async fn load(config: &Ec2Config) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        // The budget decides when a call is made again.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Ok(name) = AppName::new("runner-manager") {
        loader = loader.app_name(name);
    }
    if let Some(region) = &config.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(url) = &config.endpoint_url {
        loader = loader.endpoint_url(url.as_str().trim_end_matches('/'));
    }
    loader.load().await
}

async fn assume(shared: &SdkConfig, role: &AssumeRole) -> SdkConfig {
    let session = role.session_name.as_deref().unwrap_or("runner-manager");
    let mut provider = AssumeRoleProvider::builder(&role.role_arn)
        .session_name(session)
        .configure(shared);
    if let Some(id) = &role.external_id {
        provider = provider.external_id(id);
    }
    let provider = SharedCredentialsProvider::new(provider.build().await);
    shared.to_builder().credentials_provider(provider).build()
}

/// The account that the credentials belong to. Needs no right, and fails where they do not work.
async fn account(shared: &SdkConfig) -> Result<String> {
    let identity = aws_sdk_sts::Client::new(shared)
        .get_caller_identity()
        .send();
    let identity = identity
        .await
        .map_err(|error| classify::of_sdk(error).with_context("call", "GetCallerIdentity"))?;
    Ok(identity.account.unwrap_or_default())
}
