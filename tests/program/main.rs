//! The whole program, as its users start it, with a simulated GitHub and real processes.

#![expect(clippy::unwrap_used, reason = "a test")]

mod demo;
mod faults;
mod kill;
mod operate;
mod own_backend;
mod redelivery;
mod render;
mod scale_sets;
mod status;
mod support;
mod suspects;
mod webhooks;
