#![doc = include_str!("../README.md")]

mod bench;
mod canary;
mod case;
mod cases;
mod desk;
mod fault;
mod harness;
mod junit;
mod logs;
mod program;
mod report;
mod run;
mod seen;
mod waivers;
mod zone;

pub use bench::Bench;
pub use canary::MARK;
pub use case::{Case, Failure, Outcome, Verdict};
pub use cases::cases;
pub use fault::Fault;
pub use harness::Harness;
pub use program::main;
pub use run::run_case;
pub use seen::{Cannot, Counts, Did, Exposure, JobFate, Place, Planted, Received, Seen, trace};
pub use waivers::Waivers;

/// The steps of the guide, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-backend.md")]
mod guide {}
