//! The client against real HTTP servers on loopback that answer in GitHub's shapes.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap is a failed test, in its helpers too"
)]

mod app;
mod check;
mod fake;
mod faults;
mod jobs;
mod network;
mod poller;
mod runners;
mod secrets;
