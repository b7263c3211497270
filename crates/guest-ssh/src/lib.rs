#![doc = include_str!("../README.md")]

mod config;
mod connect;
mod exec;
mod fault;
mod keys;
mod pool;
mod run;
mod terminal;

pub use config::{JumpHost, SshConfig};
pub use exec::SshExec;
pub use keys::{KeyFolder, RunnerKeys, Turn};
pub use pool::{SshPool, Target};
