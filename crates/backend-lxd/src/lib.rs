#![doc = include_str!("../README.md")]

mod api;
mod client;
mod cloud;
mod config;
mod connect;
mod endpoint;
mod exec;
mod guest;
mod launch;
mod operation;
mod remove;
mod request;
mod server;
mod volumes;
mod websocket;
mod wire;

use std::sync::Arc;

use runner_manager_core::{Backend, Connected, HostedRunners, parse_section};

pub use cloud::LxdCloud;
pub use config::{Image, InstanceType, Limits, LxdConfig, Protocol, Security, Tls, Volume};

/// The backend `lxd`.
pub static BACKEND: Backend = Backend {
    scheme: "lxd",
    summary: "a container or virtual machine of LXD or Incus",
    connect: |context, section| {
        Box::pin(async move {
            let cloud = LxdCloud::connect(parse_section(section)?, &context).await?;
            let runners = HostedRunners::new(cloud, context.prefix, context.timings, context.clock);
            Ok(Arc::new(runners) as Connected)
        })
    },
    schema: || schemars::schema_for!(LxdConfig),
};
