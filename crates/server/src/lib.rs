#![doc = include_str!("../README.md")]

mod api;
mod client;
mod instance;
mod metrics;
mod redelivery;
mod serve;
mod socket;
mod status;
mod tls;
mod webhook;

pub use client::AdminClient;
pub use instance::InstanceServer;
pub use redelivery::Redelivery;
pub use socket::AdminServer;
pub use status::{Flushing, StatusServer};
pub use tls::TlsFiles;
pub use webhook::WebhookServer;
