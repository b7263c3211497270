//! The steps of `cargo xtask test`, and which of them to run.

use crate::table;
use clap::ValueEnum;

/// One step. The order here is the order they run in: cheap ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    Fmt,
    Clippy,
    Features,
    Test,
    Bootstrap,
    Simulation,
    Conformance,
    Docs,
    Deny,
    Schema,
}

impl Step {
    /// The name for `--only` and for the tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Features => "features",
            Self::Test => "test",
            Self::Bootstrap => "bootstrap",
            Self::Simulation => "simulation",
            Self::Conformance => "conformance",
            Self::Docs => "docs",
            Self::Deny => "deny",
            Self::Schema => "schema",
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::Fmt => "all code is formatted",
            Self::Clippy => "no warning in any target, with all features",
            Self::Features => "the program builds with each feature alone and with none",
            Self::Test => "unit, contract and whole-program tests, with all features",
            Self::Bootstrap => {
                "Debian's tools take the scripts, and instances that boot by them run their jobs"
            }
            Self::Simulation => "the fleet keeps its invariants under thousands of seeds of faults",
            Self::Conformance => {
                "every backend keeps the contract on its real peer, and its page is current"
            }
            Self::Docs => "the API documentation builds, no link in the Markdown files is broken",
            Self::Deny => "licences, banned crates and sources of the dependencies",
            Self::Schema => "docs/config.schema.json is what the program generates",
        }
    }
}

/// The steps asked for, each once, in the order they run in; all when none is named.
pub(crate) fn select(only: &[Step]) -> Vec<Step> {
    Step::value_variants()
        .iter()
        .copied()
        .filter(|step| only.is_empty() || only.contains(step))
        .collect()
}

/// All steps with what each is for.
pub(crate) fn listing() -> String {
    let rows: Vec<Vec<String>> = Step::value_variants()
        .iter()
        .map(|step| vec![step.name().to_owned(), step.purpose().to_owned()])
        .collect();
    table::render(&["step", "checks that"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_selection_is_all_steps() {
        assert_eq!(select(&[]), Step::value_variants());
    }

    #[test]
    fn a_selection_keeps_the_order_and_runs_each_once() {
        let only = [Step::Docs, Step::Fmt, Step::Docs];
        assert_eq!(select(&only), [Step::Fmt, Step::Docs]);
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
