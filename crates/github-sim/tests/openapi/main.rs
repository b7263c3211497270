//! The simulated GitHub against GitHub's own description of its API and GitHub's own client, which
//! npm fetches.

#![expect(clippy::unwrap_used, reason = "a test")]

mod calls;
mod description;
mod events;
mod independent;
#[expect(dead_code, reason = "shared with the tests that need no network")]
#[path = "../sim/support.rs"]
mod support;
#[path = "../sim/webhooks.rs"]
mod webhooks;
