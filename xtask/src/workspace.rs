//! What cargo knows about this workspace.

use crate::failure::{Failure, Result};
use crate::scope::Scope;
use crate::{process, tools};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The package of the program.
pub(crate) const PROGRAM: &str = "runner-manager";

/// The folder of the workspace: the parent of this package's.
pub(crate) fn root() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| {
        Failure::new("CARGO_MANIFEST_DIR is not set; start this as `cargo xtask`")
    })?;
    let root = Path::new(&package).parent().map(Path::to_owned);
    root.ok_or_else(|| {
        Failure::new("CARGO_MANIFEST_DIR has no parent; start this as `cargo xtask`")
    })
}

/// Where cargo puts what it builds.
pub(crate) fn target(root: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    }
}

/// Builds a program of the workspace for the checks, and says where it is.
///
/// It is built with the features that the tests have, those of examples and so of dependencies for
/// tests: nothing is compiled once more for it.
pub(crate) fn built(root: &Path, scope: Scope, program: &str) -> Result<PathBuf> {
    tools::for_scope(root, scope)?;
    let mut build = process::cargo(root);
    build.args(["build", "--quiet", "--locked"]);
    build.args(scope.arguments(root)?);
    process::stream(build.args(["--examples", "--bin", program]))?;
    Ok(target(root).join("debug").join(program))
}

/// A target of a package of the workspace.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) package: String,
    pub(crate) name: String,
    /// `lib`, `bin`, `test`, `bench` or `example`.
    pub(crate) kind: String,
    /// The features of its package that it needs.
    pub(crate) features: Vec<String>,
}

/// All targets of the workspace.
pub(crate) fn targets(root: &Path) -> Result<Vec<Target>> {
    let metadata = metadata(root)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for package in items(&metadata["packages"]) {
        for target in items(&package["targets"]) {
            found.push(Target {
                package: text(&package["name"]),
                name: text(&target["name"]),
                kind: text(&target["kind"][0]),
                features: items(&target["required-features"])
                    .iter()
                    .map(text)
                    .collect(),
            });
        }
    }
    Ok(found)
}

/// The features of the program, as its manifest names them.
pub(crate) fn features(root: &Path) -> Result<Vec<String>> {
    features_in(&metadata(root)?)
}

fn metadata(root: &Path) -> Result<Value> {
    let mut command = process::cargo(root);
    command.args(["metadata", "--format-version", "1", "--no-deps"]);
    serde_json::from_str(&process::stdout(&mut command)?).map_err(Failure::because(
        "cannot read the answer of `cargo metadata`",
    ))
}

fn features_in(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let program = packages
        .filter(|package| package["name"] == PROGRAM)
        .find_map(|package| package["features"].as_object())
        .ok_or_else(|| Failure::new(format!("`cargo metadata` knows no package `{PROGRAM}`")))?;
    if program.is_empty() {
        return Err(Failure::new(format!(
            "package `{PROGRAM}` has no features; each backend is one"
        )));
    }
    Ok(program.keys().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn features_are_those_of_the_program() {
        let metadata = json!({"packages": [
            {"name": "other", "features": {"x": []}},
            {"name": "runner-manager", "features": {"process": [], "default": ["process"]}},
        ]});
        let expected = ["default".to_owned(), "process".to_owned()];
        assert_eq!(features_in(&metadata), Ok(expected.to_vec()));
    }

    #[test]
    fn nothing_to_check_is_a_failure() {
        let none = json!({"packages": [{"name": "runner-manager", "features": {}}]});
        assert!(features_in(&none).is_err());
        assert!(features_in(&json!({"packages": []})).is_err());
        assert!(features_in(&json!("no object")).is_err());
    }
}
