#![doc = include_str!("../README.md")]

mod api;
mod client;
mod instance;
mod redelivery;
mod socket;
mod tls;
mod webhook;

pub use client::AdminClient;
pub use instance::InstanceServer;
pub use redelivery::Redelivery;
pub use socket::AdminServer;
pub use tls::TlsFiles;
pub use webhook::WebhookServer;
