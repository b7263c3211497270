//! The simulated GitHub with the real client, real stand-in processes and GitHub's own
//! description of its API.

#![expect(clippy::unwrap_used, reason = "a test")]

mod app;
mod description;
mod faults;
mod hooks;
mod independent;
mod jobs;
mod openapi;
mod program;
mod rest;
mod scale_sets;
mod support;
mod webhooks;
