//! The documentation: what rustdoc makes, and the links in the Markdown files.

use crate::failure::{Failure, Result};
use crate::links::{self, Broken};
use crate::process;
use crate::scope::Scope;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files that every checkout has.
const REQUIRED: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// Looks up every relative link, and builds the API documentation.
pub(crate) fn check(root: &Path, scope: Scope) -> Result<()> {
    let pages = pages(root)?;
    let broken = links::check(&pages, |path| root.join(path).exists());
    report(&broken, pages.len())?;
    build(root, scope)
}

/// Builds the API documentation without warnings.
pub(crate) fn build(root: &Path, scope: Scope) -> Result<()> {
    let mut doc = process::cargo(root);
    doc.args(["doc", "--locked", "--no-deps"]);
    doc.args(scope.arguments(root)?);
    // With examples, dependencies have the features that they have in tests, and what clippy
    // compiled is used again. The program `runner-manager` is its library, by name too.
    doc.args([
        "--lib",
        "--examples",
        "--bin",
        "xtask",
        "--bin",
        "github-sim",
    ]);
    process::stream(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn report(broken: &[Broken], pages: usize) -> Result<()> {
    for link in broken {
        eprintln!("{link}");
    }
    if broken.is_empty() {
        println!("no broken link in {pages} Markdown files");
        return Ok(());
    }
    let count = broken.len();
    Err(Failure::new(format!("{count} broken links, listed above")))
}

/// The Markdown files whose links are checked, by path from the root.
fn pages(root: &Path) -> Result<BTreeMap<String, String>> {
    let mut paths: Vec<String> = REQUIRED.map(str::to_owned).to_vec();
    collect(root, "docs", &mut paths)?;
    for name in names(root, "crates")? {
        let readme = format!("crates/{name}/README.md");
        if root.join(&readme).exists() {
            paths.push(readme);
        }
    }
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(root.join(&path))
                .map_err(Failure::because(format!("cannot read {path}")))?;
            Ok((path, text))
        })
        .collect()
}

/// Adds all Markdown files below a folder.
fn collect(root: &Path, folder: &str, paths: &mut Vec<String>) -> Result<()> {
    for name in names(root, folder)? {
        let path = format!("{folder}/{name}");
        if root.join(&path).is_dir() {
            collect(root, &path, paths)?;
        } else if Path::new(&name).extension().is_some_and(|end| end == "md") {
            paths.push(path);
        }
    }
    Ok(())
}

fn names(root: &Path, folder: &str) -> Result<Vec<String>> {
    let attempt = || format!("cannot list {folder}");
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join(folder)).map_err(Failure::because(attempt()))? {
        let entry = entry.map_err(Failure::because(attempt()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for folder in ["docs/adr", "crates/core", "crates/bare"] {
            fs::create_dir_all(root.path().join(folder)).expect("a folder");
        }
        for (path, text) in files {
            fs::write(root.path().join(path), text).expect("a file");
        }
        root
    }

    const COMPLETE: [(&str, &str); 6] = [
        (
            "README.md",
            "[decisions](docs/adr), [core](crates/core/README.md#core)",
        ),
        ("CONTRIBUTING.md", ""),
        ("CHANGELOG.md", ""),
        ("docs/adr/0001-a.md", "[data](../data.json)"),
        ("docs/data.json", "[x](gone.md)"),
        ("crates/core/README.md", "# core"),
    ];

    #[test]
    fn markdown_is_found_at_the_top_in_docs_and_in_crates() {
        let root = checkout(&COMPLETE);
        let pages = pages(root.path()).expect("all pages can be read");
        let expected = [
            "CHANGELOG.md",
            "CONTRIBUTING.md",
            "README.md",
            "crates/core/README.md",
            "docs/adr/0001-a.md",
        ];
        assert_eq!(pages.keys().collect::<Vec<_>>(), expected);
        let broken = links::check(&pages, |path| root.path().join(path).exists());
        assert_eq!(report(&broken, pages.len()), Ok(()));
    }

    #[test]
    fn a_missing_page_that_every_checkout_has_is_named() {
        let root = checkout(&COMPLETE[1..]);
        let failure = pages(root.path()).expect_err("no README");
        assert!(failure.to_string().contains("README.md"), "{failure}");
    }

    #[test]
    fn a_broken_link_fails_the_check() {
        let root = checkout(&[COMPLETE[0], COMPLETE[1], COMPLETE[2]]);
        let pages = pages(root.path()).expect("all pages can be read");
        let broken = links::check(&pages, |path| root.path().join(path).exists());
        assert_eq!(broken.len(), 1);
        assert!(report(&broken, pages.len()).is_err());
    }
}
