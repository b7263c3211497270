//! The program `runner-manager`, as a library: for a program of one's own that has more backends.
//!
//! ```no_run
//! # mod acme {
//! #     pub static BACKEND: runner_manager::Backend = runner_manager::Backend {
//! #         scheme: "acme",
//! #         summary: "a server of Acme",
//! #         connect: |_, _| Box::pin(std::future::pending()),
//! #         schema: || schemars::schema_for!(()),
//! #     };
//! # }
//! fn main() -> std::process::ExitCode {
//!     runner_manager::main(&[&acme::BACKEND])
//! }
//! ```

mod backends;
mod cli;
mod config;
#[cfg(feature = "demo")]
mod demo;
mod logs;
mod operate;
mod render;
mod run;
mod services;
mod shell;
mod watch;
mod webhook;
mod why;

use std::process::ExitCode;

pub use runner_manager_core::Backend;

/// Runs the program on the arguments of this process, with the backends that the features of this
/// crate choose and with these. A pool names one by its scheme, and sets it up in the section
/// `[pool.SCHEME]`.
///
/// Of what is called before this, nothing may start a thread or read the arguments as its own:
/// with the feature `demo`, the program is also what plays the runner of the demo.
///
/// It fails where a scheme is a key of pools, or a backend's that is there already.
#[must_use]
pub fn main(added: &[&'static Backend]) -> ExitCode {
    #[cfg(feature = "demo")]
    if let Some(code) = runner_manager_github_sim::stand_in_main() {
        return code;
    }
    cli::main(added)
}
