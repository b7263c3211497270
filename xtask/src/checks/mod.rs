//! What each step does.

pub(crate) mod bootstrap;
pub(crate) mod deny;
mod docs;
mod features;
mod rust;
pub(crate) mod schema;
mod translation;

use crate::conformance::{self, Page};
use crate::failure::Result;
use crate::new_backend;
use crate::simulation;
use crate::step::Step;
use std::path::Path;

/// Runs one step in the workspace at `root`. Its output goes to the terminal as it comes.
pub(crate) fn run(root: &Path, step: Step, without: &[String]) -> Result<()> {
    match step {
        Step::Fmt => rust::format(root),
        Step::Clippy => rust::lint(root),
        Step::Features => features::check(root),
        Step::Test => rust::test(root),
        Step::Bootstrap => bootstrap::test(root),
        Step::Simulation => simulation::check(root),
        Step::Conformance => conform(root, without),
        Step::Docs => docs::check(root),
        Step::Deny => deny::check(root),
        Step::Schema => schema::check(root),
    }
}

/// The suite against all backends, and against one outside the tree.
fn conform(root: &Path, without: &[String]) -> Result<()> {
    for scheme in without {
        println!("WITHOUT the conformance of `{scheme}`, as `--without` says");
    }
    let schemes = conformance::select(root, &["all".to_owned()], without)?;
    conformance::run(root, &schemes, Page::Check)?;
    conformance::out_of_tree(root)?;
    new_backend::prove(root)
}
