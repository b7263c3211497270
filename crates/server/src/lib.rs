#![doc = include_str!("../README.md")]

mod api;
mod client;
mod socket;
mod webhook;

pub use client::AdminClient;
pub use socket::AdminServer;
pub use webhook::WebhookServer;
