//! The steps that are one call of cargo over the whole workspace.

use crate::failure::{Failure, Result};
use crate::process;
use crate::tools::{self, Tool};
use std::path::Path;

/// Checks that all code is formatted.
pub(crate) fn format(root: &Path) -> Result<()> {
    tools::require(root, Tool::Rustfmt)?;
    process::stream(process::cargo(root).args(["fmt", "--all", "--check"]))
        .map_err(|failure| Failure::new(format!("{failure}; `cargo fmt --all` formats the code")))
}

/// Checks that clippy has nothing to say about any target, with all features.
pub(crate) fn lint(root: &Path) -> Result<()> {
    tools::require(root, Tool::Clippy)?;
    tools::for_all_features(root)?;
    // The second takes in the tests that need a peer, which `--all-targets` leaves out.
    for targets in [&["--all-targets"][..], &["--test", "*"]] {
        let mut clippy = process::cargo(root);
        clippy.args(["clippy", "--workspace", "--all-features"]);
        process::stream(clippy.args(targets).args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}

/// Runs all tests, with all features.
pub(crate) fn test(root: &Path) -> Result<()> {
    tools::for_all_features(root)?;
    tools::provide(root, Tool::Npm, &["npm"])?;
    process::test(process::cargo(root).args(["test", "--workspace", "--all-features"]))
}
