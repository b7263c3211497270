#![doc = include_str!("../README.md")]

mod bench;
mod case;
mod cases;
mod harness;
mod report;
mod run;

pub use bench::Bench;
pub use case::{Case, Failure, Outcome, Verdict};
pub use cases::cases;
pub use harness::{Counts, Did, Fault, Harness};
pub use run::{main, run_case};
