#![doc = include_str!("../README.md")]

mod api;
mod config;
mod control;
mod core;
mod environment;
mod error;
mod exchanges;
mod fault;
mod in_process;
mod model;
mod observer;
mod runner_side;
mod serve;
mod sim;
mod stand_in;
mod state;
mod webhook;

pub use config::{
    AppConfig, JobOffer, RateLimit, RunnerChoice, ScaleSetConfig, SimConfig, WebhookConfig,
};
pub use error::{Error, Result};
pub use exchanges::Exchange;
pub use fault::{DeliveryFaults, FaultAction, FaultRule, JsonEdit};
pub use in_process::InProcess;
pub use model::{
    Conclusion, HeldRun, JobSpec, JobStatus, JobView, RunnerView, ScaleSetView, Snapshot,
};
pub use observer::{Observer, WebhookDelivery};
pub use sim::Sim;
pub use stand_in::{stand_in_main, write_runner_folder};
