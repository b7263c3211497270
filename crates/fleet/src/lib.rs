#![doc = include_str!("../README.md")]

mod board;
mod chance;
mod config;
mod decide;
mod deliver;
mod demand;
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
mod snapshot;
mod source;

pub use config::{Architecture, FleetConfig, PoolConfig, Registration};
pub use fleet::{Fleet, FlushMode};
pub use route::offered_labels;
pub use snapshot::PoolSnapshot;
pub use source::{DemandSource, PlannerConfig, ScaleSetConfig};
