#![doc = include_str!("../README.md")]

mod board;
mod callback;
mod chance;
mod config;
mod decide;
mod deliver;
mod demand;
mod events;
mod fleet;
mod history;
mod job_log;
mod operation;
mod orphans;
mod pool;
mod queues;
mod registrar;
mod route;
mod scope;
mod services;
mod snapshot;
mod source;

pub use callback::{Called, Phase};
pub use config::{Architecture, FleetConfig, PoolConfig, Registration};
pub use fleet::{Fleet, FlushMode};
pub use route::offered_labels;
pub use services::{CallbackConfig, IpNetwork, ManagerServices, RepoPolicyConfig};
pub use snapshot::PoolSnapshot;
pub use source::{DemandSource, PlannerConfig, ScaleSetConfig};
