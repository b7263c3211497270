//! The part of the workspace that a step builds.

use crate::executables::Executable;
use crate::failure::Result;
use crate::workspace::{self, PROGRAM};
use std::collections::BTreeSet;
use std::path::Path;

/// Features of the program whose backends need more than Rust and a C compiler: an SDK that takes
/// minutes and gigabytes to compile, and the headers of libvirt.
const HEAVY: [&str; 2] = ["ec2", "libvirt"];

/// Test programs that download files.
const ONLINE: [&str; 1] = ["openapi"];

/// The part of the workspace that a step builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything that Rust and a C compiler can build, and whose tests need no network.
    Hermetic,
    /// The whole workspace, with all features.
    All,
}

impl Scope {
    /// The packages and features, as arguments for cargo.
    ///
    /// Both scopes ask the same features of the dependencies that they share, so that cargo builds
    /// those once; the step `features` compares them.
    pub(crate) fn arguments(self, root: &Path) -> Result<Vec<String>> {
        let mut words = vec!["--workspace".to_owned()];
        match self {
            Self::All => words.push("--all-features".to_owned()),
            Self::Hermetic => {
                for scheme in HEAVY {
                    words.extend(["--exclude".to_owned(), package(scheme)]);
                }
                let mut features = workspace::features(root)?;
                features.retain(|feature| !HEAVY.contains(&feature.as_str()));
                let features = features
                    .iter()
                    .map(|feature| format!("{PROGRAM}/{feature}"));
                let features: Vec<String> = features.collect();
                words.extend(["--features".to_owned(), features.join(",")]);
            }
        }
        Ok(words)
    }

    /// The arguments that name all integration tests that this scope can build, those that need a
    /// server too: `cargo test` leaves these out, and `--test *` fails on a test whose features are
    /// off.
    pub(crate) fn integration_tests(self, root: &Path) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        for target in workspace::targets(root)? {
            let is_heavy = HEAVY.iter().any(|scheme| {
                target.package == package(scheme) || target.features.iter().any(|f| f == scheme)
            });
            let is_left_out = is_heavy || ONLINE.contains(&target.name.as_str());
            if target.kind == "test" && (self == Self::All || !is_left_out) {
                names.insert(target.name);
            }
        }
        let named = |name| ["--test".to_owned(), name];
        Ok(names.into_iter().flat_map(named).collect())
    }

    /// Whether the hermetic checks can build a backend.
    pub(crate) fn of_backend(scheme: &str) -> Self {
        if HEAVY.contains(&scheme) {
            Self::All
        } else {
            Self::Hermetic
        }
    }
}

/// Whether the hermetic checks leave out a test program.
pub(crate) fn is_left_out(test: &Executable) -> bool {
    HEAVY.iter().any(|scheme| test.package == package(scheme))
        || ONLINE.contains(&test.target.as_str())
}

fn package(scheme: &str) -> String {
    format!("runner-manager-backend-{scheme}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hermetic_scope_has_neither_the_heavy_backends_nor_their_features() {
        let root = workspace::root().expect("the root");
        let words = Scope::Hermetic
            .arguments(&root)
            .expect("cargo knows the features");
        let features = words.last().expect("the features");
        assert!(features.contains("runner-manager/process"), "{features}");
        for scheme in HEAVY {
            assert!(!features.contains(&format!("/{scheme}")), "{features}");
            assert_eq!(Scope::of_backend(scheme), Scope::All);
        }
        assert_eq!(Scope::of_backend("lxd"), Scope::Hermetic);
    }

    #[test]
    fn the_integration_tests_of_a_scope_are_those_that_it_can_build() {
        let root = workspace::root().expect("the root");
        let names = |scope: Scope| scope.integration_tests(&root).expect("cargo names them");
        let has = |names: &[String], name: &str| names.iter().any(|word| word == name);
        for (name, is_hermetic) in [
            ("lxd", true),
            ("conformance-process", true),
            ("libvirt", false),
            ("conformance-ec2-scenarios", false),
            ("openapi", false),
        ] {
            assert_eq!(has(&names(Scope::Hermetic), name), is_hermetic, "{name}");
            assert!(has(&names(Scope::All), name), "{name}");
        }
        assert!(!has(&names(Scope::All), "whole"), "it is a bench");
    }

    #[test]
    fn every_backend_that_is_left_out_exists() {
        let root = workspace::root().expect("the root");
        for scheme in HEAVY {
            let folder = root.join("crates").join(format!("backend-{scheme}"));
            assert!(folder.is_dir(), "{scheme}");
        }
    }
}
