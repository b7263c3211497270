//! The build tool of this workspace: `cargo xtask COMMAND`.

mod bench;
mod checks;
mod ci;
mod cli;
mod conformance;
mod executables;
mod facts;
mod failure;
mod installation;
mod links;
mod mutations;
mod new_backend;
mod nightly;
mod peers;
mod plan;
mod process;
mod scope;
mod simulation;
mod step;
mod table;
mod tools;
mod workspace;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run(&cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
