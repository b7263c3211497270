//! Launching one runner.

use std::time::Duration;

use aws_sdk_ec2::types::{CreateFleetError, CreateFleetInstance};
use jiff::Timestamp;
use runner_manager_core::{
    Bootstrap, CloudInstance, CloudRunnerState, Effect, Error, ErrorKind, LaunchSpec, Result,
    RunnerName,
};

use crate::candidates::{Candidate, Market};
use crate::cloud::Ec2Cloud;
use crate::image::Resolved;
use crate::instances::convert;
use crate::request::{self, Order};
use crate::{classify, guest, spot};

/// The most bytes of user-data, before base64.
pub(crate) const USER_DATA: u32 = 16_384;

/// EC2's word for a client token whose instance has ended.
const ENDED: &str = "IdempotentInstanceTerminated";
/// How often one name may be launched after its instance has ended.
const GENERATIONS: u32 = 8;
/// How often, and how long after each other, the instance of an earlier call is looked for.
const LOOKS: u32 = 15;
const LOOK_PAUSE: Duration = Duration::from_secs(2);

/// One launch that is under way.
struct Launch<'a> {
    cloud: &'a Ec2Cloud,
    name: &'a RunnerName,
    image: Option<Resolved>,
    /// In base64.
    user_data: String,
}

/// Launches an instance, or adopts the one that an earlier call made.
pub(crate) async fn launch(cloud: &Ec2Cloud, spec: &LaunchSpec) -> Result<CloudInstance> {
    let was_known = cloud.guests.knows(&spec.name).await?;
    let outcome = try_launch(cloud, spec).await;
    match &outcome {
        Ok(instance) => cloud.instances.launched(instance),
        Err(error) if error.effect() == Effect::None && !was_known => {
            forget_unused(cloud, &spec.name).await;
        }
        Err(_) => {}
    }
    outcome
}

/// Forgets the keys of a refused launch, unless there is an instance all the same: an error that
/// follows the effect looks like any other, and whoever removes the instance needs its keys.
async fn forget_unused(cloud: &Ec2Cloud, name: &RunnerName) {
    let forget = async {
        if cloud.guests.knows(name).await? && cloud.instances.get(name).await?.is_none() {
            cloud.guests.forget_name(name).await?;
        }
        Ok::<(), Error>(())
    };
    if let Err(error) = forget.await {
        tracing::warn!(runner = %name, %error, "the runner's SSH keys stay");
    }
}

async fn try_launch(cloud: &Ec2Cloud, spec: &LaunchSpec) -> Result<CloudInstance> {
    let launch = Launch {
        user_data: user_data(cloud, spec).await?,
        image: cloud.images.current(&cloud.api).await?,
        name: &spec.name,
        cloud,
    };
    launch.first_that_fits().await
}

async fn user_data(cloud: &Ec2Cloud, spec: &LaunchSpec) -> Result<String> {
    let mut boot = cloud.config.boot.clone();
    boot.extra_parts
        .extend(guest::parts(&cloud.guests, &spec.name).await?);
    if cloud.config.may_be_spot() {
        boot.extra_parts.push(spot::watcher(&boot));
    }
    Ok(Bootstrap::new(spec, &boot)?
        .user_data(Some(USER_DATA))?
        .expose_base64())
}

/// Whether another candidate may do better.
fn is_shortage(error: &Error) -> bool {
    error.kind() == ErrorKind::NoCapacity
        || error
            .context("code")
            .is_some_and(classify::is_spot_shortage)
}

impl Launch<'_> {
    async fn first_that_fits(&self) -> Result<CloudInstance> {
        let candidates = self.cloud.droughts.order(&self.cloud.candidates);
        // A client token keeps one candidate from being launched twice; of several an earlier
        // call may have taken another.
        if candidates.len() > 1
            && let Some(found) = self.cloud.instances.get(self.name).await?
        {
            return Ok(found);
        }
        let mut last = None;
        for candidate in &candidates {
            match self.try_one(candidate).await {
                Ok(instance) => {
                    self.cloud.droughts.clear(candidate);
                    return Ok(instance);
                }
                Err(error) if is_shortage(&error) => {
                    tracing::info!(runner = %self.name, ?candidate, %error, "no capacity; try the next");
                    self.cloud.droughts.note(candidate);
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let none = || Error::new(ErrorKind::InvalidConfig, "there is nothing to launch");
        Err(last
            .unwrap_or_else(none)
            .with_context("tried", candidates.len()))
    }

    /// What became of the earlier call that used a client token: its instance, or `None` when
    /// that has ended, so that the name is free again.
    async fn earlier(&self, error: Error) -> Result<Option<CloudInstance>> {
        let has_ended = error.context("code") == Some(ENDED);
        let mut looks = 1;
        loop {
            match self.cloud.instances.latest(self.name).await? {
                Some(found) if found.state != CloudRunnerState::Deleted => return Ok(Some(found)),
                Some(_) => return Ok(None),
                None if has_ended => return Ok(None),
                None if looks == LOOKS => {
                    let message = "an earlier launch of this name does not show yet";
                    return Err(Error::new(ErrorKind::AlreadyExists, message)
                        .with_effect(Effect::Unknown)
                        .with_source(error));
                }
                None => tokio::time::sleep(LOOK_PAUSE).await,
            }
            looks += 1;
        }
    }

    /// Tries a candidate under the first client token that is not used up.
    async fn try_one(&self, candidate: &Candidate) -> Result<CloudInstance> {
        for generation in 0..GENERATIONS {
            match self.try_once(candidate, generation).await {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    if let Some(found) = self.earlier(error).await? {
                        return Ok(found);
                    }
                }
                outcome => return outcome,
            }
        }
        let message = "this name was launched and ended too often; take another";
        Err(Error::new(ErrorKind::AlreadyExists, message))
    }

    async fn try_once(&self, candidate: &Candidate, generation: u32) -> Result<CloudInstance> {
        let outcome = match candidate {
            Candidate::One {
                instance_type,
                subnet,
                ..
            } => {
                let (kind, subnet) = (instance_type.as_deref(), subnet.as_deref());
                self.run(candidate, generation, kind, subnet).await
            }
            Candidate::Fleet { market } => self.fleet(*market, generation).await,
        };
        if let Err(error) = &outcome
            && error
                .context("code")
                .is_some_and(|code| code.starts_with("InvalidAMIID"))
        {
            self.cloud.images.forget().await;
        }
        outcome
    }

    fn order(&self, generation: u32) -> Order<'_> {
        Order {
            name: self.name,
            config: &self.cloud.config,
            image: self.image.as_ref(),
            generation,
        }
    }

    async fn run(
        &self,
        candidate: &Candidate,
        generation: u32,
        kind: Option<&str>,
        subnet: Option<&str>,
    ) -> Result<CloudInstance> {
        let api = &self.cloud.api;
        let call = request::run(
            self.order(generation),
            candidate,
            kind,
            subnet,
            self.user_data.clone(),
        );
        let answer = api
            .call("RunInstances", || call.clone().send_with(&api.ec2))
            .await?;
        let mut instances = answer.instances.unwrap_or_default();
        let instance = instances
            .pop()
            .and_then(|found| convert(self.name.clone(), &found));
        match instance {
            Some(found) if found.state == CloudRunnerState::Deleted => {
                let message = "the client token is that of an instance that has ended";
                Err(Error::new(ErrorKind::AlreadyExists, message)
                    .with_context("code", ENDED)
                    .with_context("instance", found.native_id))
            }
            Some(found) => Ok(found),
            None => Err(unclear("RunInstances")),
        }
    }

    async fn fleet(&self, market: Market, generation: u32) -> Result<CloudInstance> {
        let api = &self.cloud.api;
        let template = self
            .cloud
            .templates
            .current(api, self.image.as_ref())
            .await?;
        let call = request::fleet(
            self.order(generation),
            market,
            &template,
            self.user_data.clone(),
        );
        let outcome = api
            .call("CreateFleet", || call.clone().send_with(&api.ec2))
            .await;
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                let code = error.context("code").unwrap_or_default();
                if code.starts_with("InvalidLaunchTemplate") {
                    self.cloud.templates.forget().await;
                }
                return Err(error);
            }
        };
        match launched(answer.instances.unwrap_or_default()) {
            Some(native_id) => Ok(CloudInstance {
                name: self.name.clone(),
                native_id,
                state: CloudRunnerState::Created,
                created_at: Timestamp::now(),
                addresses: Vec::new(),
            }),
            None => Err(refused(&answer.errors.unwrap_or_default())),
        }
    }
}

fn launched(instances: Vec<CreateFleetInstance>) -> Option<String> {
    instances
        .into_iter()
        .flat_map(|some| some.instance_ids.unwrap_or_default())
        .next()
}

/// What a fleet says when it launched nothing: the failure that no other choice would heal, if
/// there is one, and a shortage otherwise.
fn refused(errors: &[CreateFleetError]) -> Error {
    let of = |error: &CreateFleetError| {
        let code = error.error_code.as_deref().unwrap_or_default();
        classify::of_code(
            code,
            error.error_message.as_deref().unwrap_or_default(),
            400,
        )
    };
    let mut all = errors.iter().map(of);
    match all
        .clone()
        .find(|error| !is_shortage(error))
        .or_else(|| all.next())
    {
        Some(error) => error.with_context("call", "CreateFleet"),
        None => unclear("CreateFleet"),
    }
}

fn unclear(call: &'static str) -> Error {
    let message = "EC2 says that the launch succeeded, and names no instance";
    Error::new(ErrorKind::BadAnswer, message)
        .with_effect(Effect::Unknown)
        .with_context("call", call)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: &str) -> CreateFleetError {
        CreateFleetError::builder()
            .error_code(code)
            .error_message("no")
            .build()
    }

    #[test]
    fn a_fleet_that_launched_nothing_says_why() {
        let scarce = refused(&[
            error("InsufficientInstanceCapacity"),
            error("SpotMaxPriceTooLow"),
        ]);
        assert_eq!(scarce.kind(), ErrorKind::NoCapacity);
        let wrong = refused(&[
            error("InsufficientInstanceCapacity"),
            error("InvalidParameterValue"),
        ]);
        assert_eq!(wrong.kind(), ErrorKind::InvalidRequest);
        assert_eq!(refused(&[]).effect(), Effect::Unknown);
    }

    #[test]
    fn what_spot_lacks_is_a_shortage_and_a_quota_of_on_demand_is_not() {
        let code = |code| is_shortage(&classify::of_code(code, "", 400));
        assert!(code("MaxSpotInstanceCountExceeded"));
        assert!(code("InsufficientFreeAddressesInSubnet"));
        assert!(!code("VcpuLimitExceeded"));
    }
}
