#![doc = include_str!("../README.md")]

mod config;
mod connect;
mod fault;
mod keys;
mod pool;
mod run;

pub use config::{JumpHost, SshConfig};
pub use keys::{KeyFolder, RunnerKeys};
pub use pool::{SshPool, Target};
pub use run::Output;
