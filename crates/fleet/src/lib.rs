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
mod recorder;
mod redact;
mod registrar;
mod route;
mod schedule;
mod scope;
mod services;
mod snapshot;
mod source;

pub use callback::{Called, Phase};
pub use config::{Architecture, FleetConfig, PhaseDeadlines, PoolConfig, Registration, Sizing};
pub use fleet::{Fleet, FlushMode};
pub use pool::{CircuitView, NO_JOBS};
pub use route::offered_labels;
pub use schedule::Schedule;
pub use services::{CallbackConfig, IpNetwork, ManagerServices, RepoPolicyConfig};
pub use snapshot::PoolSnapshot;
pub use source::{DemandSource, PlannerCarrier, PlannerConfig, PressureStream, ScaleSetConfig};
