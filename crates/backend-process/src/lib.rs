#![doc = include_str!("../README.md")]

mod api;
mod cgroup;
mod cloud;
mod config;
mod connect;
mod disk;
mod end;
mod environment;
mod exchange;
mod fence;
mod files;
mod guest;
mod host;
mod keyring;
mod launch;
mod leftovers;
mod lock;
mod logs;
mod record;
mod remove;
mod runner_folder;
mod scan;
mod tarball;
mod users;

use std::sync::Arc;

use runner_manager_core::{Backend, Connected, HostedRunners, parse_section};

pub use cloud::ProcessCloud;
pub use config::{FailedLogs, Limits, ProcessConfig};

/// The backend `process`.
pub static BACKEND: Backend = Backend {
    scheme: "process",
    summary: "a process of its own user, cgroup and work folder on this machine",
    connect: |context, section| {
        Box::pin(async move {
            let cloud = ProcessCloud::connect(parse_section(section)?).await?;
            let runners = HostedRunners::new(cloud, context.prefix, context.timings, context.clock);
            Ok(Arc::new(runners) as Connected)
        })
    },
    schema: || schemars::schema_for!(ProcessConfig),
};
