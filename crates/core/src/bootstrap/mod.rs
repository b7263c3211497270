//! What runs on an instance between its boot and its job, once for all backends that boot by
//! cloud-init. `docs/bootstrap.md` describes it.
//!
//! The scripts are constants. Values reach them by files of their own, which are quoted by a
//! library, and these files reach the instance through a YAML serializer: nothing is pasted
//! into a script.

mod aproxy;
mod check;
mod config;
mod environment;
mod files;
mod private;
mod render;
mod reveal;
mod services;
mod user_data;

pub use config::{
    Aproxy, BootConfig, Compression, ExtraPart, Machine, Network, PartKind, RunnerDownload,
    RunnerFolder,
};
pub use private::BootSecrets;
pub use render::Bootstrap;
pub use user_data::UserData;

/// The folder of the manager's files on an instance.
const BASE: &str = "/opt/runner-manager";
