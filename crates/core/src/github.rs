//! Whose runners they are on GitHub.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{InvalidValue, Labels};

/// The scope that runners register with, as it stands in the path of its URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GitHubPath {
    /// An organization, and the runner group that its runners join.
    Organization {
        /// The organization's login.
        org: String,
        /// The runner group's name; `Default` where none is wanted.
        group: String,
    },
    /// One repository.
    Repository {
        /// The owner's login.
        owner: String,
        /// The repository's name.
        repo: String,
    },
    /// An enterprise, and the runner group that its runners join.
    Enterprise {
        /// The enterprise's slug.
        enterprise: String,
        /// The runner group's name; `Default` where none is wanted.
        group: String,
    },
}

impl GitHubPath {
    /// The runner group that every organization and enterprise has.
    pub const DEFAULT_GROUP: &'static str = "Default";

    /// Parses `ORG`, `OWNER/REPO` or `enterprises/SLUG`.
    ///
    /// # Errors
    /// When a part is empty or holds what GitHub allows in no name.
    pub fn parse(path: &str, group: Option<&str>) -> Result<Self, InvalidValue> {
        let parts: Vec<&str> = path.split('/').collect();
        for part in &parts {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if part.is_empty()
                || part.len() > 100
                || !part.chars().all(allowed)
                || part.starts_with('.')
            {
                return Err(InvalidValue::new(
                    "GitHub scope",
                    path,
                    "is not `ORG`, `OWNER/REPO` or `enterprises/SLUG`",
                ));
            }
        }
        let group = || group.unwrap_or(Self::DEFAULT_GROUP).to_owned();
        match parts.as_slice() {
            [org] => Ok(Self::Organization {
                org: (*org).into(),
                group: group(),
            }),
            ["enterprises", slug] => Ok(Self::Enterprise {
                enterprise: (*slug).into(),
                group: group(),
            }),
            [owner, repo] => Ok(Self::Repository {
                owner: (*owner).into(),
                repo: (*repo).into(),
            }),
            _ => Err(InvalidValue::new(
                "GitHub scope",
                path,
                "has too many parts; use `ORG`, `OWNER/REPO` or `enterprises/SLUG`",
            )),
        }
    }

    /// The prefix of the scope's REST paths: `/orgs/O`, `/repos/O/R` or `/enterprises/E`.
    #[must_use]
    pub fn api_path(&self) -> String {
        match self {
            Self::Organization { org, .. } => format!("/orgs/{org}"),
            Self::Repository { owner, repo } => format!("/repos/{owner}/{repo}"),
            Self::Enterprise { enterprise, .. } => format!("/enterprises/{enterprise}"),
        }
    }

    /// Whether a repository is of this scope, as far as that can be told: of an enterprise, whose
    /// organizations are not known here, none is.
    #[must_use]
    pub fn holds(&self, owner: &str, repo: &str) -> bool {
        match self {
            Self::Organization { org, .. } => org.eq_ignore_ascii_case(owner),
            Self::Repository { owner: o, repo: r } => {
                o.eq_ignore_ascii_case(owner) && r.eq_ignore_ascii_case(repo)
            }
            Self::Enterprise { .. } => false,
        }
    }

    /// The runner group, where the scope has groups.
    #[must_use]
    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Organization { group, .. } | Self::Enterprise { group, .. } => Some(group),
            Self::Repository { .. } => None,
        }
    }
}

impl fmt::Display for GitHubPath {
    /// The path of the scope's web page, which is also what `config.sh --url` wants after the
    /// host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization { org, .. } => f.write_str(org),
            Self::Repository { owner, repo } => write!(f, "{owner}/{repo}"),
            Self::Enterprise { enterprise, .. } => write!(f, "enterprises/{enterprise}"),
        }
    }
}

/// What a runner registers as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitHubRunnerConfig {
    /// The scope.
    pub github_path: GitHubPath,
    /// The labels that the runner offers.
    pub labels: Labels,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_parse_and_give_their_paths() {
        let org = GitHubPath::parse("octo-org", None).unwrap();
        assert!(org.holds("Octo-Org", "any") && !org.holds("octo", "any"));
        assert_eq!(
            (org.api_path().as_str(), org.group()),
            ("/orgs/octo-org", Some("Default"))
        );
        let repo = GitHubPath::parse("octo/hello.world", None).unwrap();
        assert!(repo.holds("octo", "Hello.World") && !repo.holds("octo", "hello"));
        assert_eq!(
            (repo.api_path().as_str(), repo.group()),
            ("/repos/octo/hello.world", None)
        );
        let enterprise = GitHubPath::parse("enterprises/acme", Some("big")).unwrap();
        assert_eq!(enterprise.api_path(), "/enterprises/acme");
        for bad in [
            "", "/", "a/", "a/b/c", "a b", "../x", "a/..", "a?b", "a/$(id)",
        ] {
            assert!(GitHubPath::parse(bad, None).is_err(), "{bad:?} was taken");
        }
    }
}
