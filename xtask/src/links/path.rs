//! Paths as links write them.

/// Whether a target has a scheme (`https:`, `mailto:`) or a host (`//host`).
pub(crate) fn is_remote(target: &str) -> bool {
    if target.starts_with("//") {
        return true;
    }
    let scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    target.split_once(':').is_some_and(|(start, rest)| {
        start.len() > 1
            && start.starts_with(|c: char| c.is_ascii_alphabetic())
            && start.chars().all(scheme)
            && !rest.starts_with(':')
    })
}

/// The path from the root that `target` means in `page`.
pub(crate) fn join(page: &str, target: &str) -> Result<String, String> {
    if target.starts_with('/') {
        return Err("the path is absolute; write it relative to this page".to_owned());
    }
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let left = parts.pop();
                left.ok_or_else(|| "the path leaves the repository".to_owned())?;
            }
            name => parts.push(name),
        }
    }
    if parts.is_empty() {
        return Ok(".".to_owned());
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_targets_have_a_scheme_or_a_host() {
        for target in ["https://a/b", "mailto:a@b", "//host/x", "vscode+x:y"] {
            assert!(is_remote(target), "{target}");
        }
        for target in ["a/b.md", "#a:b", "docs/a:b.md", "crate::Thing", ""] {
            assert!(!is_remote(target), "{target}");
        }
    }

    #[test]
    fn paths_are_relative_to_the_page() {
        assert_eq!(join("docs/a/b.md", "../c.md").as_deref(), Ok("docs/c.md"));
        assert_eq!(join("README.md", "./docs/").as_deref(), Ok("docs"));
        assert_eq!(join("docs/a.md", "..").as_deref(), Ok("."));
    }

    #[test]
    fn paths_stay_within_the_repository() {
        assert!(join("docs/a.md", "../../x").is_err());
        assert!(join("docs/a.md", "/x").is_err());
    }
}
