//! The steps of `cargo xtask test`, and which of them to run.

use crate::table;
use clap::ValueEnum;

/// The tier of the checks that a step belongs to; `CONTRIBUTING.md` describes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Needs Rust and a C compiler: no root, no server, no network but for crates.
    Hermetic,
    /// Needs root, and starts servers.
    Peers,
}

/// One step. The order here is the order they run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    Fmt,
    Clippy,
    Docs,
    Test,
    Suite,
    Simulation,
    AllFeatures,
    Features,
    Schema,
    Servers,
    Bootstrap,
    Conformance,
    Providers,
    Deny,
}

impl Step {
    /// The name for `--only` and for the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::Test => "test",
            Self::Suite => "suite",
            Self::Simulation => "simulation",
            Self::AllFeatures => "all-features",
            Self::Features => "features",
            Self::Schema => "schema",
            Self::Servers => "servers",
            Self::Bootstrap => "bootstrap",
            Self::Conformance => "conformance",
            Self::Providers => "providers",
            Self::Deny => "deny",
        }
    }

    /// The first tier that runs it.
    pub(crate) fn tier(self) -> Tier {
        match self {
            Self::Fmt | Self::Clippy | Self::Docs | Self::Test | Self::Suite | Self::Simulation => {
                Tier::Hermetic
            }
            Self::AllFeatures
            | Self::Features
            | Self::Schema
            | Self::Servers
            | Self::Bootstrap
            | Self::Conformance
            | Self::Providers
            | Self::Deny => Tier::Peers,
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Fmt => "all code is formatted",
            Self::Clippy => "no warning in any target",
            Self::Docs => "the API documentation builds, no link in the Markdown files is broken",
            Self::Test => "unit, contract and whole-program tests",
            Self::Suite => "the backend `process` keeps the contract",
            Self::Simulation => "the fleet keeps its invariants under thousands of seeds of faults",
            Self::AllFeatures => {
                "clippy, documentation and tests of the parts that the steps before leave out"
            }
            Self::Features => "the program builds with each feature alone and with none",
            Self::Schema => "docs/config.schema.json is the output of the program",
            Self::Servers => "tests that start a server of their own",
            Self::Bootstrap => {
                "Debian's tools take the scripts, and instances that boot by them run their jobs"
            }
            Self::Conformance => {
                "every backend keeps the contract on its real peer, and its page is current"
            }
            Self::Providers => {
                "a backend outside the tree passes the suite, and a generated one fails every case"
            }
            Self::Deny => "licences, banned crates and sources of the dependencies",
        }
    }
}

/// The steps asked for, each once, in the order they run in; those of the hermetic tier when none
/// is named.
pub(crate) fn select(only: &[Step]) -> Vec<Step> {
    let is_wanted = |step: &Step| match only {
        [] => step.tier() == Tier::Hermetic,
        only => only.contains(step),
    };
    let steps = Step::value_variants().iter().copied();
    steps.filter(is_wanted).collect()
}

/// All steps with the command that runs each, and its purpose.
pub(crate) fn listing() -> String {
    let row = |step: &Step| {
        let command = match step.tier() {
            Tier::Hermetic => "cargo xtask test",
            Tier::Peers => ".ci/run",
        };
        vec![
            step.name().to_owned(),
            command.to_owned(),
            step.purpose().to_owned(),
        ]
    };
    let rows: Vec<_> = Step::value_variants().iter().map(row).collect();
    table::render(&["step", "run by", "checks that"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_selection_is_the_hermetic_tier() {
        let steps = select(&[]);
        assert!(steps.contains(&Step::Test) && !steps.contains(&Step::Conformance));
    }

    #[test]
    fn a_selection_keeps_the_order_and_runs_each_once() {
        let only = [Step::Deny, Step::Fmt, Step::Deny];
        assert_eq!(select(&only), [Step::Fmt, Step::Deny]);
    }

    #[test]
    fn the_command_line_and_the_tables_use_one_name() {
        for step in Step::value_variants() {
            let value = step.to_possible_value().expect("no step is hidden");
            assert_eq!(value.get_name(), step.name());
        }
    }

    #[test]
    fn the_listing_has_a_line_for_each_step() {
        let listing = listing();
        assert_eq!(listing.lines().count(), Step::value_variants().len() + 2);
        assert!(listing.contains("schema"));
    }
}
