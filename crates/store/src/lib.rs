#![doc = include_str!("../README.md")]

mod boots;
mod commit;
mod events;
mod failures;
mod jobs;
mod open;
mod queue_sessions;
mod runners;
mod state;

pub use boots::{Digest, NewBoot, Refusal};
pub use events::{EventsAfter, Recorded};
pub use failures::{FailureRow, NewFailure};
pub use jobs::{JobRow, JobStatus};
pub use open::{Gate, Moment, Store};
pub use queue_sessions::QueueSession;
pub use runners::{Live, NewRunner, RunnerFilter, RunnerRow, Step};
pub use state::RunnerState;
