//! The simulation: seeds, large runs, and planted bugs that it has to find.

use crate::failure::{Failure, Result};
use crate::scope::Scope;
use crate::{mutations, process, workspace};
use std::path::Path;
use std::process::Command;

const PACKAGE: &str = "runner-manager-simulation";

/// How long the step of the checks may run seeds, and how many at most.
const STEP: [&str; 4] = ["--seeds", "1000", "--seconds", "30"];

/// What `cargo xtask simulate` is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many seeds to run
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; alone, the one to replay, with all that happens
    #[arg(long)]
    seed: Option<u64>,
    /// One large run of this many jobs
    #[arg(long, conflicts_with = "seeds")]
    jobs: Option<u64>,
    /// Plant bugs in a copy of the fleet, and see that the simulation finds each
    #[arg(long, conflicts_with_all = ["seeds", "seed", "jobs", "seconds"])]
    mutations: bool,
    /// Begin no further seed after this many seconds
    #[arg(long)]
    seconds: Option<u64>,
}

impl Options {
    fn arguments(&self) -> Vec<String> {
        let pairs = [
            ("--seeds", self.seeds),
            ("--seed", self.seed),
            ("--jobs", self.jobs),
            ("--seconds", self.seconds),
        ];
        let given = pairs
            .iter()
            .filter_map(|(name, value)| Some((name, (*value)?)));
        given
            .flat_map(|(name, value)| [(*name).to_owned(), value.to_string()])
            .collect()
    }
}

/// Runs what was asked for.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    if options.mutations {
        return mutations::run(root);
    }
    process::stream(program(root).args(options.arguments()))
}

/// The step of the checks: as many seeds as fit into its time.
pub(crate) fn check(root: &Path) -> Result<()> {
    process::stream(Command::new(workspace::built(root, Scope::Hermetic, "simulate")?).args(STEP))
        .map_err(Failure::because("the simulation found a violation"))
}

/// The long run: 10,000 seeds.
pub(crate) fn soak(root: &Path) -> Result<()> {
    process::stream(program(root).args(["--seeds", "10000"]))
}

/// The simulation in a release build, which runs several times as many seeds in its time.
fn program(root: &Path) -> Command {
    let mut command = process::cargo(root);
    command.args([
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        PACKAGE,
        "--",
    ]);
    command
}
