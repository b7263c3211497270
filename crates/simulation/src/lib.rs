#![doc = include_str!("../README.md")]

mod clock;
mod cloud;
mod github;
mod plan;
mod planner;
mod run;
mod trace;
mod world;

pub use plan::{Faults, Plan, PoolPlan, Source};
pub use run::{Outcome, Watch, run};
pub use world::Tally;
