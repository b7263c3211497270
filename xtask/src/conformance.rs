//! The conformance suite, backend by backend.

use crate::failure::{Failure, Result};
use crate::process;
use std::fs;
use std::path::Path;

/// A backend outside the workspace that keeps the contract too.
const OUT_OF_TREE: &str = "tests/out-of-tree/Cargo.toml";

/// The schemes of the backends in this tree.
fn schemes(root: &Path) -> Result<Vec<String>> {
    let crates = root.join("crates");
    let entries = fs::read_dir(&crates).map_err(Failure::because("cannot list `crates`"))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut schemes: Vec<String> = names
        .filter_map(|name| Some(name.to_str()?.strip_prefix("backend-")?.to_owned()))
        .collect();
    schemes.sort();
    Ok(schemes)
}

/// Runs the suite for these schemes, or for all, and writes the page of each.
pub(crate) fn run(root: &Path, wanted: &[String]) -> Result<()> {
    let known = schemes(root)?;
    if let Some(unknown) = wanted.iter().find(|w| *w != "all" && !known.contains(w)) {
        let known = known.join(", ");
        return Err(Failure::new(format!(
            "there is no backend `{unknown}`; known: {known}, all"
        )));
    }
    let all = wanted.iter().any(|w| w == "all");
    for scheme in known.iter().filter(|scheme| all || wanted.contains(scheme)) {
        let folder = root.join("docs/conformance");
        fs::create_dir_all(&folder).map_err(Failure::because("cannot make `docs/conformance`"))?;
        let mut test = process::cargo(root);
        test.args(["test", "--quiet", "--test", "conformance", "--package"])
            .arg(format!("runner-manager-backend-{scheme}"))
            .env("CONFORMANCE_REPORT", folder.join(format!("{scheme}.md")));
        process::stream(&mut test)?;
    }
    Ok(())
}

/// Plants every bug in the reference backend, and says which the suite finds.
pub(crate) fn mutations(root: &Path) -> Result<()> {
    let mut test = process::cargo(root);
    test.args(["test", "--quiet", "--package", "runner-manager-conformance"])
        .args(["--test", "reference", "--", "--nocapture"]);
    process::stream(&mut test)
}

/// Builds the backend outside the workspace and runs the suite against it.
pub(crate) fn out_of_tree(root: &Path) -> Result<()> {
    let mut test = process::cargo(root);
    test.args([
        "test",
        "--quiet",
        "--locked",
        "--manifest-path",
        OUT_OF_TREE,
    ])
    .arg("--target-dir")
    .arg(root.join("target"));
    process::stream(&mut test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backends_are_found_and_others_refused() {
        let root = crate::workspace::root().unwrap();
        assert!(schemes(&root).unwrap().contains(&"process".to_owned()));
        let refused = run(&root, &["zzz".to_owned()]).unwrap_err();
        assert!(refused.to_string().contains("process"), "{refused}");
    }
}
