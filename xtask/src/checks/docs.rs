//! The documentation: what rustdoc makes, and the links in the Markdown files.

use crate::failure::{Failure, Result};
use crate::links::{self, Broken};
use crate::process;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Files that every checkout has.
const REQUIRED: [&str; 3] = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];

/// Builds the API documentation without warnings, and looks up every relative link.
pub(crate) fn check(root: &Path) -> Result<()> {
    let pages = pages(root)?;
    let broken = links::check(&pages, |path| root.join(path).exists());
    report(&broken, pages.len())?;
    process::stream(
        process::cargo(root)
            .args(["doc", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
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
