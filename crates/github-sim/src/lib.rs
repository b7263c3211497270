#![doc = include_str!("../README.md")]

mod api;
mod config;
mod control;
mod core;
mod error;
mod exchanges;
mod fault;
mod model;
mod runner_side;
mod serve;
mod sim;
mod stand_in;
mod state;
mod webhook;

pub use config::{AppConfig, RateLimit, ScaleSetConfig, SimConfig, WebhookConfig};
pub use error::{Error, Result};
pub use exchanges::Exchange;
pub use fault::{FaultAction, FaultRule};
pub use model::{Conclusion, JobSpec, JobStatus, JobView, RunnerView, ScaleSetView, Snapshot};
pub use sim::Sim;
pub use stand_in::{stand_in_main, write_runner_folder};
