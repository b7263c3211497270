#![doc = include_str!("../README.md")]

mod api;
mod client;
mod socket;

pub use client::AdminClient;
pub use socket::AdminServer;
