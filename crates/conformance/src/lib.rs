#![doc = include_str!("../README.md")]

mod bench;
mod case;
mod cases;
mod fault;
mod harness;
mod leak;
mod logs;
mod program;
mod report;
mod run;
mod seen;
mod waivers;

pub use bench::Bench;
pub use case::{Case, Failure, Outcome, Verdict};
pub use cases::cases;
pub use fault::Fault;
pub use harness::Harness;
pub use leak::MARK;
pub use program::main;
pub use run::run_case;
pub use seen::{Cannot, Counts, Did, Exposure, JobFate, Place, Planted, Received, Seen, trace};
pub use waivers::Waivers;
