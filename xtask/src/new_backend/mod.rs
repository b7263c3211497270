//! `cargo xtask new-backend NAME`: every file that a backend has, and its lines in the others.

mod edit;
mod prove;

pub(crate) use prove::prove;

use crate::failure::{Failure, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Words that mean something else on the command line.
const TAKEN: [&str; 2] = ["all", "demo"];

/// Each template, and where it goes. `@scheme@`, `@SCHEME@` and `@Type@` are the name.
const FILES: [(&str, &str); 12] = [
    (
        "crates/backend-@scheme@/Cargo.toml",
        include_str!("templates/Cargo.toml.in"),
    ),
    (
        "crates/backend-@scheme@/README.md",
        include_str!("templates/README.md.in"),
    ),
    (
        "crates/backend-@scheme@/src/lib.rs",
        include_str!("templates/lib.rs.in"),
    ),
    (
        "crates/backend-@scheme@/src/config.rs",
        include_str!("templates/config.rs.in"),
    ),
    (
        "crates/backend-@scheme@/src/api.rs",
        include_str!("templates/api.rs.in"),
    ),
    (
        "crates/backend-@scheme@/src/cloud.rs",
        include_str!("templates/cloud.rs.in"),
    ),
    (
        "tests/conformance/@scheme@.rs",
        include_str!("templates/harness.rs.in"),
    ),
    (
        "tests/peers/@scheme@/up.sh",
        include_str!("templates/up.sh.in"),
    ),
    (
        "tests/peers/@scheme@/down.sh",
        include_str!("templates/down.sh.in"),
    ),
    (
        "tests/peers/@scheme@/README.md",
        include_str!("templates/peer.md.in"),
    ),
    (
        "tests/peers/@scheme@/waivers.toml",
        include_str!("templates/waivers.toml.in"),
    ),
    (
        "docs/backends/@scheme@.md",
        include_str!("templates/page.md.in"),
    ),
];

/// Writes a backend that compiles and does nothing yet.
pub(crate) fn run(root: &Path, scheme: &str) -> Result<()> {
    check(root, scheme)?;
    let capabilities = edit::capabilities(root)?;
    // The lines in other files first: they fail where those files have another shape.
    edit::wire(root, scheme)?;
    for (path, text) in FILES {
        let path = fill(path, scheme);
        let text = fill(text, scheme).replace("@capabilities@", &capabilities);
        write(&root.join(&path), &text)?;
        println!("wrote {path}");
    }
    println!(
        "next: `cargo xtask conformance {scheme}`, and docs/adding-a-backend.md from its third step"
    );
    Ok(())
}

/// One lowercase word that no backend has.
fn check(root: &Path, scheme: &str) -> Result<()> {
    let mut letters = scheme.chars();
    let fits = letters.next().is_some_and(|c| c.is_ascii_lowercase())
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if !fits || TAKEN.contains(&scheme) {
        return Err(Failure::new(format!(
            "`{scheme}` is no name for a backend: give one lowercase word of letters and digits"
        )));
    }
    for (path, _) in FILES {
        let path = fill(path, scheme);
        if root.join(&path).exists() {
            return Err(Failure::new(format!("{path} exists already")));
        }
    }
    Ok(())
}

/// The template with the name in its three forms.
fn fill(template: &str, scheme: &str) -> String {
    let mut type_name = scheme.to_owned();
    if let Some(first) = type_name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    template
        .replace("@scheme@", scheme)
        .replace("@SCHEME@", &scheme.to_ascii_uppercase())
        .replace("@Type@", &type_name)
}

fn write(path: &Path, text: &str) -> Result<()> {
    let attempt = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Failure::because(attempt()))?;
    }
    fs::write(path, text).map_err(Failure::because(attempt()))?;
    if path.extension().is_some_and(|end| end == "sh") {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(path, mode).map_err(Failure::because(attempt()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_lowercase_words_are_names() {
        let root = crate::workspace::root().expect("the root");
        for bad in ["", "Acme", "a-b", "a_b", "1a", "a b", "all", "process", "ü"] {
            assert!(check(&root, bad).is_err(), "{bad:?} was taken");
        }
        check(&root, "acme2").expect("a new name");
    }

    #[test]
    fn names_take_the_place_of_all_their_forms() {
        assert_eq!(fill("@scheme@ @Type@ @SCHEME@", "acme"), "acme Acme ACME");
        for (path, text) in FILES {
            let text = fill(text, "acme").replace("@capabilities@", "");
            assert!(!text.contains('@') || path.ends_with(".sh"), "{path}");
        }
    }
}
