#![doc = include_str!("../README.md")]

mod api;
mod server;
mod stand_in;
mod world;

pub use server::Sim;
pub use stand_in::{stand_in_main, write_runner_folder};
pub use world::{JobSpec, JobView, RunnerView};
