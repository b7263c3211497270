#![doc = include_str!("../README.md")]

mod agent;
mod api;
mod cloud;
mod config;
mod domain;
mod host;
mod launch;
mod list;
mod names;
mod native;
mod place;
mod pool;
mod seed;
mod volume;

use std::sync::Arc;

use runner_manager_core::{Backend, Connected, HostedRunners, parse_section};

pub use cloud::LibvirtCloud;
pub use config::{Accelerator, Firmware, HostConfig, Kernel, LibvirtConfig, Network};

/// The backend `libvirt`.
pub static BACKEND: Backend = Backend {
    scheme: "libvirt",
    summary: "a QEMU/KVM domain from a backing image and a cloud-init seed",
    connect: |context, section| {
        Box::pin(async move {
            let config = parse_section(section)?;
            let cloud = LibvirtCloud::connect(config, &context.timings).await?;
            let runners = HostedRunners::new(cloud, context.prefix, context.timings, context.clock);
            Ok(Arc::new(runners) as Connected)
        })
    },
    schema: || schemars::schema_for!(LibvirtConfig),
};
