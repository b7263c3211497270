//! The simulated GitHub with the real client and real stand-in processes.

#![expect(clippy::unwrap_used, reason = "a test")]

mod app;
mod faults;
mod hooks;
mod in_process;
mod jobs;
mod program;
mod rest;
mod scale_sets;
mod support;
mod webhooks;
