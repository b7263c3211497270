//! What each step does.

mod deny;
mod docs;
mod features;
mod rust;
pub(crate) mod schema;

use crate::failure::Result;
use crate::step::Step;
use std::path::Path;

/// Runs one step in the workspace at `root`. Its output goes to the terminal as it comes.
pub(crate) fn run(root: &Path, step: Step) -> Result<()> {
    match step {
        Step::Fmt => rust::format(root),
        Step::Clippy => rust::lint(root),
        Step::Features => features::check(root),
        Step::Test => rust::test(root),
        Step::Docs => docs::check(root),
        Step::Deny => deny::check(root),
        Step::Schema => schema::check(root),
    }
}
