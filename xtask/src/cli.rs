//! The commands.

use crate::failure::Result;
use crate::peers::Peer;
use crate::step::{self, Step};
use crate::{bench, checks, ci, conformance, new_backend, nightly, plan, simulation, workspace};
use clap::{Parser, Subcommand};
use std::num::NonZeroU32;
use std::path::Path;

/// Checks, generates and measures this workspace.
///
/// Exit codes: 0 all is well, 1 a step failed, 2 wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the checks that need only Rust and a C compiler, up to the first that fails
    Test {
        /// Run these steps only, in their usual order
        #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
        only: Vec<Step>,
        /// Leave out the conformance suite of these backends
        #[arg(long, value_name = "SCHEME")]
        without: Vec<String>,
        /// Name the steps and what each does, and run none
        #[arg(long, conflicts_with = "only")]
        list: bool,
    },
    /// Run all checks, as continuous integration does: needs root, and starts servers
    Ci,
    /// Run whole suites, planted bugs and long simulations, for hours
    Nightly,
    /// Run the conformance suite against the real peers of backends, and write their pages
    Conformance {
        /// The schemes, or `all`
        #[arg(required_unless_present = "mutations")]
        schemes: Vec<String>,
        /// Leave out these backends
        #[arg(long, value_name = "SCHEME")]
        without: Vec<String>,
        /// Plant bugs in the reference backend, and see that the suite finds each
        #[arg(long)]
        mutations: bool,
    },
    /// Start or stop the real servers that backends are tested against
    Peers {
        #[command(subcommand)]
        action: PeersAction,
    },
    /// Boot instances of 64-bit ARM as the step `bootstrap` boots those of this machine; QEMU
    /// translates them, which takes ten times as long
    BootstrapArm64,
    /// Run the fleet under virtual time and seeded faults
    Simulate(simulation::Options),
    /// Write a new backend: a crate that compiles, its lines in the tables, its peer, its page
    NewBackend {
        /// One lowercase word, which names it everywhere
        name: String,
    },
    /// Write the generated files that are committed
    Generate,
    /// Run the demo several times and print the medians of its latencies, then the benches of the
    /// fleet and of whole processes
    Bench {
        /// How often to run the demo
        #[arg(long, default_value = "3")]
        runs: NonZeroU32,
        /// How many jobs each demo runs
        #[arg(long, default_value = "50")]
        jobs: NonZeroU32,
    },
}

#[derive(Debug, Subcommand)]
enum PeersAction {
    /// Install what is missing, and start
    Up {
        /// The schemes, or `all`
        #[arg(required = true)]
        schemes: Vec<String>,
    },
    /// Stop what `up` started
    Down {
        /// The schemes, or `all`
        #[arg(required = true)]
        schemes: Vec<String>,
    },
}

/// Does what the command line asks for.
pub(crate) fn run(cli: &Cli) -> Result<()> {
    let root = workspace::root()?;
    match &cli.command {
        Command::Test { list: true, .. } => {
            print!("{}", step::listing());
            Ok(())
        }
        Command::Test { only, without, .. } => {
            let report = plan::run(&root, &step::select(only), without);
            println!("\n{}", report.table());
            report.verdict()
        }
        Command::Ci => ci::run(&root),
        Command::Nightly => nightly::run(&root),
        Command::Conformance {
            schemes,
            without,
            mutations,
        } => {
            if *mutations {
                conformance::mutations(&root)?;
            }
            if schemes.is_empty() {
                return Ok(());
            }
            let schemes = conformance::select(&root, schemes, without)?;
            conformance::write(&root, &schemes)
        }
        Command::BootstrapArm64 => checks::bootstrap::test_arm64(&root),
        Command::NewBackend { name } => new_backend::run(&root, name),
        Command::Peers { action } => peers(&root, action),
        Command::Simulate(options) => simulation::run(&root, options),
        Command::Generate => checks::schema::generate(&root),
        Command::Bench { runs, jobs } => bench::run(&root, *runs, *jobs),
    }
}

fn peers(root: &Path, action: &PeersAction) -> Result<()> {
    match action {
        PeersAction::Up { schemes } => {
            let schemes = conformance::select(root, schemes, &[])?;
            schemes.iter().try_for_each(|s| Peer::of(root, s).up())
        }
        PeersAction::Down { schemes } => {
            let schemes = conformance::select(root, schemes, &[])?;
            schemes.iter().try_for_each(|s| Peer::of(root, s).down())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Every `cargo xtask` line of a guide is a command of this tool.
    #[test]
    fn the_commands_of_the_guides_exist() {
        let root = workspace::root().expect("the root");
        for page in ["CONTRIBUTING.md", "docs/adding-a-backend.md"] {
            let text = std::fs::read_to_string(root.join(page)).expect("the page");
            let lines = text.lines().filter(|line| line.starts_with("cargo xtask "));
            let mut count = 0;
            for line in lines {
                let line = line.split(" #").next().unwrap_or(line);
                let words = line.split_whitespace().skip(1);
                assert!(Cli::try_parse_from(words).is_ok(), "{page}: {line}");
                count += 1;
            }
            assert!(count > 0, "{page} names no command");
        }
    }

    #[test]
    fn an_unknown_or_empty_step_is_refused() {
        for only in ["zzz", "", "fmt,", "fmt,zzz"] {
            let line = ["xtask", "test", "--only", only];
            assert!(Cli::try_parse_from(line).is_err(), "accepted {only:?}");
        }
        assert!(Cli::try_parse_from(["xtask", "test", "--only", "docs,fmt"]).is_ok());
    }

    #[test]
    fn a_bench_of_no_runs_is_refused() {
        assert!(Cli::try_parse_from(["xtask", "bench", "--runs", "0"]).is_err());
    }
}
