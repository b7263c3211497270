//! Finds relative links in the documents that lead nowhere.

use std::fs;
use std::path::{Path, PathBuf};

/// The broken links below `root`, each with its file.
pub(crate) fn broken(root: &Path) -> Result<Vec<String>, String> {
    let mut documents = Vec::new();
    for top in ["", "docs", "docs/adr", "docs/backends"] {
        documents.extend(markdown(&root.join(top))?);
    }
    let mut broken = Vec::new();
    for document in documents {
        let text =
            fs::read_to_string(&document).map_err(|e| format!("{}: {e}", document.display()))?;
        let folder = document.parent().unwrap_or(root);
        for target in targets(&text) {
            let path = target.split('#').next().unwrap_or_default();
            if !path.is_empty() && !folder.join(path).exists() {
                broken.push(format!("{}: `{target}` leads nowhere", document.display()));
            }
        }
    }
    Ok(broken)
}

fn markdown(folder: &Path) -> Result<Vec<PathBuf>, String> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .collect())
}

/// The targets of inline links that are neither addresses nor inside a code block.
fn targets(text: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')')
                && !target.contains("://")
                && !target.starts_with("mailto:")
            {
                found.push(target);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_outside_code_are_found() {
        let text = "[a](docs/a.md) [b](https://example.com) [c](#here)\n```\n[d](no)\n```\n";
        assert_eq!(targets(text), ["docs/a.md", "#here"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        let root = std::env::temp_dir().join(format!("xtask-links-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap_or_else(|e| panic!("{e}"));
        let written = fs::write(root.join("README.md"), "[x](missing.md) [y](README.md)");
        let found = broken(&root);
        let removed = fs::remove_dir_all(&root);
        assert!(written.is_ok() && removed.is_ok());
        let found = found.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("missing.md"));
    }
}
