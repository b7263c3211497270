#![doc = include_str!("../README.md")]

mod api;
mod batch;
mod candidates;
mod check;
mod classify;
mod client;
mod cloud;
mod config;
mod console;
mod guest;
mod image;
mod instances;
mod launch;
mod leftovers;
mod memory;
mod request;
mod spot;
mod state;
mod tags;
mod templates;

use std::sync::Arc;

use runner_manager_core::{Backend, Connected, HostedRunners, parse_section};

pub use cloud::Ec2Cloud;
pub use config::{
    Address, AssumeRole, DataVolume, Ec2Config, Image, LaunchTemplate, Purchase, Ssh, Ssm,
    Strategy, Volume, VolumeKind,
};

/// The backend `ec2`.
pub static BACKEND: Backend = Backend {
    scheme: "ec2",
    summary: "an EC2 instance, on demand or spot",
    connect: |context, section| {
        Box::pin(async move {
            let cloud = Ec2Cloud::connect(parse_section(section)?, &context).await?;
            let runners = HostedRunners::new(cloud, context.prefix, context.timings, context.clock);
            Ok(Arc::new(runners) as Connected)
        })
    },
    schema: || schemars::schema_for!(Ec2Config),
};
