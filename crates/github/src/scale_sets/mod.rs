//! Runner scale sets: jobs are assigned to a set, and a queue of messages tells of them.
//!
//! The protocol is that of GitHub's public client for scale sets (`actions/scaleset`, API version
//! `6.0-preview`): a registration token buys a connection to the Actions service of the scope,
//! and everything else goes there. None of its calls counts against the REST API's rate limit.

mod connection;
mod model;
mod session;
mod sets;
mod wire;

pub(crate) use connection::Connections;
pub use model::{
    ScaleSet, ScaleSetJob, ScaleSetJobState, ScaleSetMessage, ScaleSetRunner, ScaleSetSpec,
    Statistics,
};
pub use session::ScaleSetSession;

const SETS: [&str; 3] = ["_apis", "runtime", "runnerscalesets"];
