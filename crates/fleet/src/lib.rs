#![doc = include_str!("../README.md")]

mod chance;
mod config;
mod decide;
mod deliver;
mod fleet;
mod history;
mod job_log;
mod operation;
mod orphans;
mod pool;
mod route;
mod scope;
mod snapshot;

pub use config::{Architecture, FleetConfig, PoolConfig, Registration};
pub use fleet::{Fleet, FlushMode};
pub use route::offered_labels;
pub use snapshot::PoolSnapshot;
