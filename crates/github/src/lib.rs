//! The client of GitHub's self-hosted runner API, for github.com, GitHub Enterprise Cloud with
//! data residency, and GitHub Enterprise Server.
//!
//! One [`GitHub`] serves one GitHub host with one credential ([`Auth`]) and any number of
//! scopes. It is cheap to clone; its clones share connections, rate budget, `ETag`s and tokens.
//!
//! Promises that callers may build on:
//! - every call ends: each attempt has a deadline, at most three attempts are made, and only
//!   calls that may be repeated without harm, or certainly were not sent, are made again;
//! - a list is whole or an error, never a part, but for [`GitHub::observe_runners`] and
//!   [`JobPoller`], which say what they could not read;
//! - a record of a list that lacks a field, or has an odd one, is skipped with a log line;
//! - once GitHub asks for fewer calls of a kind, later ones of that kind fail at once with
//!   [`ErrorKind::RateLimited`](runner_manager_core::ErrorKind::RateLimited) until it takes
//!   calls again;
//! - no error, log line or `Debug` text holds a secret.
//!
//! Paths and shapes are those of GitHub's `OpenAPI` description, API version `2022-11-28`.

mod answer;
mod app;
mod auth;
mod call;
mod check;
mod classify;
mod client;
mod config;
mod etag;
mod hooks;
mod http;
mod jobs;
mod lenient;
mod limits;
mod model;
mod pages;
mod poll;
mod rest;
mod retry;
mod runners;
mod scale_sets;
mod text;
mod tokens;
mod transport;
mod urls;
mod webhook;
mod wire;

pub use client::GitHub;
pub use config::{AppKey, Auth, GitHubConfig};
pub use model::{
    Deleted, FailedDelivery, Finding, HookChange, HookPlace, HookSpec, JitRequest, JitRunner,
    Listing, Observed, RateLimit, RegistrationToken, RemoteJob, RemoteRunner, RemovalToken, Unread,
};
pub use poll::{JobPoller, PolledJobs};
pub use scale_sets::{
    ScaleSet, ScaleSetJob, ScaleSetJobState, ScaleSetMessage, ScaleSetRunner, ScaleSetSession,
    ScaleSetSpec, Statistics,
};
pub use text::escaped;
pub use transport::{Request, Response, Transport, TransportError};
pub use webhook::{JobEvent, is_signed, workflow_job};
