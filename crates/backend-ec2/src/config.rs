//! The section `[pool.ec2]`.

mod check;
mod guest;
mod image;
mod volumes;

use std::collections::BTreeMap;

use runner_manager_core::BootConfig;
use schemars::JsonSchema;
use serde::Deserialize;

pub use guest::{Address, Ssh, Ssm};
pub use image::{Image, LaunchTemplate};
pub use volumes::{DataVolume, Volume, VolumeKind};

/// The section `[pool.ec2]` of the configuration. Credentials come from the standard chain of
/// the AWS SDK: environment, profile, SSO, web identity, the role of the container or instance.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ec2Config {
    /// The region. Default: that of the environment or the profile.
    pub region: Option<String>,
    /// Another address of the APIs, for private endpoints.
    #[schemars(with = "Option<String>")]
    pub endpoint_url: Option<url::Url>,
    /// The profile of the shared configuration. Default: `AWS_PROFILE`, or `default`.
    pub profile: Option<String>,
    /// A role to assume with the credentials of the chain.
    pub assume_role: Option<AssumeRole>,
    /// The image. May be left out where the launch template names one.
    pub image: Option<Image>,
    /// A launch template as the base; what stands here wins over it.
    pub launch_template: Option<LaunchTemplate>,
    /// Instance types, the preferred first. May be empty where the launch template names one.
    #[serde(default)]
    pub instance_types: Vec<String>,
    /// Subnets, the preferred first. Empty: that of the launch template, or the default one.
    #[serde(default)]
    pub subnet_ids: Vec<String>,
    /// How one of the instance types and subnets is picked.
    #[serde(default)]
    pub strategy: Strategy,
    /// On demand, spot, or spot first.
    #[serde(default)]
    pub purchase: Purchase,
    /// The most to pay for an hour of spot, in US dollars. Default: the on-demand price.
    pub spot_max_price: Option<String>,
    /// Security groups. Empty: those of the launch template, or the default one.
    #[serde(default)]
    pub security_group_ids: Vec<String>,
    /// Whether instances get a public address. Default: as the subnet says.
    pub public_address: Option<bool>,
    /// An instance profile for the instances, by name or ARN. Jobs can use its rights.
    pub instance_profile: Option<String>,
    /// A key pair for a human's SSH.
    pub key_name: Option<String>,
    /// The root volume. Default: `gp3`, encrypted, of the image's size; with a launch template,
    /// as that says.
    pub root_volume: Option<Volume>,
    /// More volumes.
    #[serde(default)]
    pub data_volumes: Vec<DataVolume>,
    /// Whether metrics are taken every minute rather than every five, which costs extra.
    #[serde(default)]
    pub detailed_monitoring: bool,
    /// More tags for instances, volumes and network interfaces.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// How the instances become runners.
    #[serde(default)]
    pub boot: BootConfig,
    /// Reach the instances over SSH. Give this, or `ssm`, or neither: then health is what EC2
    /// and GitHub say, and metrics are none.
    pub ssh: Option<Ssh>,
    /// Reach the instances through Systems Manager.
    pub ssm: Option<Ssm>,
    /// The most calls of the API per second, of all pools of the account and region together.
    /// Default: 20.
    #[serde(default = "calls_per_second")]
    pub calls_per_second: u32,
}

fn calls_per_second() -> u32 {
    20
}

/// A role to assume.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssumeRole {
    /// The ARN of the role.
    pub role_arn: String,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
    /// The name of the session in `CloudTrail`. Default: `runner-manager`.
    pub session_name: Option<String>,
}

/// How one of several instance types and subnets is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Each type in each subnet in order, the first that has capacity. One that lacked it comes
    /// last for a minute.
    #[default]
    Ordered,
    /// EC2 picks the cheapest (`CreateFleet`).
    LowestPrice,
    /// EC2 picks where spot capacity is deepest (`CreateFleet`).
    CapacityOptimized,
    /// EC2 weighs the price and the depth of spot capacity (`CreateFleet`).
    PriceCapacityOptimized,
}

/// How instances are bought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purchase {
    /// On demand.
    #[default]
    OnDemand,
    /// Spot: cheaper, and taken away with two minutes' notice.
    Spot,
    /// Spot, and on demand where spot has no capacity, costs too much, or is used up.
    SpotThenOnDemand,
}

impl Ec2Config {
    /// Whether instances may be spot.
    pub(crate) fn may_be_spot(&self) -> bool {
        self.purchase != Purchase::OnDemand
    }
}
