//! Broken links in Markdown files: relative paths and anchors. Remote addresses are not looked at.

mod markdown;
mod path;
mod slug;

use markdown::Link;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A link that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    page: String,
    link: Link,
    reason: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { page, link, reason } = self;
        write!(out, "{page}:{}: `{}`: {reason}", link.line, link.target)
    }
}

/// Looks up every relative link of `pages`, which are texts by path from the root. `exists`
/// answers for paths from the root that are not among the pages.
pub(crate) fn check(
    pages: &BTreeMap<String, String>,
    exists: impl Fn(&str) -> bool,
) -> Vec<Broken> {
    let anchors: BTreeMap<&str, BTreeSet<String>> = pages
        .iter()
        .map(|(page, text)| (page.as_str(), slug::anchors(text)))
        .collect();
    let mut broken = Vec::new();
    for (page, text) in pages {
        for link in markdown::links(text) {
            if let Err(reason) = resolve(page, &link.target, &anchors, &exists) {
                let page = page.clone();
                broken.push(Broken { page, link, reason });
            }
        }
    }
    broken
}

fn resolve(
    page: &str,
    target: &str,
    anchors: &BTreeMap<&str, BTreeSet<String>>,
    exists: impl Fn(&str) -> bool,
) -> Result<(), String> {
    if path::is_remote(target) {
        return Ok(());
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let file = match file {
        "" if anchor.is_none() => return Err("the target is empty".to_owned()),
        "" => page.to_owned(),
        file => path::join(page, file)?,
    };
    if !anchors.contains_key(file.as_str()) && !exists(&file) {
        return Err(format!("no such file: {file}"));
    }
    match (anchor, anchors.get(file.as_str())) {
        (None, _) => Ok(()),
        (Some(anchor), Some(known)) if known.contains(anchor) => Ok(()),
        (Some(anchor), Some(_)) => Err(format!("no heading of {file} has the anchor `{anchor}`")),
        (Some(_), None) => Err(format!(
            "{file} is not among the checked pages, so its anchors are unknown"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(pages: &[(&str, &str)]) -> Vec<String> {
        let pages = pages
            .iter()
            .map(|&(path, text)| (path.to_owned(), text.to_owned()))
            .collect();
        let exists = |path: &str| ["LICENSE", "crates/core"].contains(&path);
        check(&pages, exists)
            .iter()
            .map(Broken::to_string)
            .collect()
    }

    #[test]
    fn links_to_files_folders_and_headings_are_found() {
        let readme = "[a](docs/a.md) [b](docs/a.md#the-end) [l](LICENSE) [c](crates/core)\n\
                      [x](https://example.invalid/x) [m](mailto:a@example.invalid) [s](#top)\n\n# Top\n";
        let page = "# The end\n[back](../README.md) [root](../LICENSE)\n";
        assert_eq!(
            broken(&[("README.md", readme), ("docs/a.md", page)]),
            [""; 0]
        );
    }

    #[test]
    fn each_broken_link_is_named_with_its_place() {
        let page = "# One\n\n[a](b.md) and [c](#two)\n\n[d](../../x)\n[e](LICENSE#x) [f]()\n";
        let found = broken(&[("docs/a.md", page), ("docs/LICENSE", "")]);
        assert_eq!(
            found,
            [
                "docs/a.md:3: `b.md`: no such file: docs/b.md",
                "docs/a.md:3: `#two`: no heading of docs/a.md has the anchor `two`",
                "docs/a.md:5: `../../x`: the path leaves the repository",
                "docs/a.md:6: `LICENSE#x`: no heading of docs/LICENSE has the anchor `x`",
                "docs/a.md:6: ``: the target is empty",
            ]
        );
    }

    #[test]
    fn an_anchor_in_a_file_that_is_not_read_is_refused() {
        assert_eq!(broken(&[("README.md", "[a](LICENSE#x)")]).len(), 1);
    }

    #[test]
    fn reference_definitions_are_links_too() {
        let found = broken(&[("README.md", "[see][x]\n\n[x]: gone.md\n")]);
        assert_eq!(found, ["README.md:3: `gone.md`: no such file: gone.md"]);
    }
}
