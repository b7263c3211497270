#![doc = include_str!("../README.md")]

mod api;
mod cloud;
mod clouds;
mod config;
mod consoles;
mod guest;
mod keypairs;
mod launch;
mod lookup;
mod mark;
mod network;
mod remove;
mod servers;
mod session;
mod volumes;

use std::sync::Arc;

use runner_manager_core::{Backend, Connected, HostedRunners, parse_section};

pub use cloud::OpenstackCloud;
pub use config::{BootVolume, Direction, OpenstackConfig, Rule, SecurityGroup};

/// The backend `openstack`.
pub static BACKEND: Backend = Backend {
    scheme: "openstack",
    summary: "a Nova server of an OpenStack cloud",
    connect: |context, section| {
        Box::pin(async move {
            let cloud = OpenstackCloud::connect(&context, parse_section(section)?).await?;
            let runners = HostedRunners::new(cloud, context.prefix, context.timings, context.clock);
            Ok(Arc::new(runners) as Connected)
        })
    },
    schema: || schemars::schema_for!(OpenstackConfig),
};
