#![doc = include_str!("../README.md")]

mod jobs;
mod open;
mod runners;
mod state;

pub use jobs::{JobRow, JobStatus};
pub use open::{Gate, Moment, Store};
pub use runners::{Live, NewRunner, RunnerFilter, RunnerRow, Step};
pub use state::RunnerState;
