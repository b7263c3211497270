//! What each step does.

pub(crate) mod bootstrap;
pub(crate) mod deny;
mod docs;
mod features;
mod rust;
pub(crate) mod schema;
mod translation;

use crate::executables::{self, Executable, Targets};
use crate::failure::Result;
use crate::peers::Peer;
use crate::scope::Scope;
use crate::step::Step;
use crate::{conformance, new_backend, simulation};
use std::path::Path;

/// The test of the SSH client, and the peer with a server of OpenSSH for it.
pub(crate) const SSH: &str = "ssh";

/// Runs one step in the workspace at `root`. Its output goes to the terminal as it comes.
pub(crate) fn run(root: &Path, step: Step, without: &[String]) -> Result<()> {
    match step {
        Step::Fmt => rust::format(root),
        Step::Clippy => rust::lint(root, Scope::Hermetic),
        Step::Docs => docs::check(root, Scope::Hermetic),
        Step::Test => rust::test(root),
        Step::Suite => conformance::check_process(root),
        Step::Simulation => simulation::check(root),
        Step::AllFeatures => rust::all_features(root),
        Step::Features => features::check(root),
        Step::Schema => schema::check(root),
        Step::Servers => {
            let tests = executables::build(root, Scope::Hermetic, Targets::Integration)?;
            servers(root, &tests)
        }
        Step::Bootstrap => bootstrap::test(root),
        Step::Conformance => conform(root, without),
        Step::Providers => {
            conformance::out_of_tree(root)?;
            new_backend::prove(root)
        }
        Step::Deny => deny::check(root),
    }
}

/// The tests that start a server of their own.
pub(crate) fn servers(root: &Path, tests: &[Executable]) -> Result<()> {
    let test = executables::find(tests, SSH)?;
    Peer::of(root, SSH).during(|environment| test.run(environment).map(drop))
}

/// The suite against all backends but `process`, which the step `suite` checks.
fn conform(root: &Path, without: &[String]) -> Result<()> {
    for scheme in without {
        println!("WITHOUT the conformance of `{scheme}`, as `--without` says");
    }
    let mut schemes = conformance::select(root, &["all".to_owned()], without)?;
    schemes.retain(|scheme| scheme != "process");
    conformance::check(root, &schemes)
}
