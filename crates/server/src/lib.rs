#![doc = include_str!("../README.md")]

mod api;
mod client;
mod redelivery;
mod socket;
mod webhook;

pub use client::AdminClient;
pub use redelivery::Redelivery;
pub use socket::AdminServer;
pub use webhook::WebhookServer;
