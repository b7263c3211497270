//! Where runners are registered.

/// An organization, a repository or an enterprise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    Org(String),
    Repo(String, String),
    Enterprise(String),
}

impl Scope {
    /// The scope that a web address names, as `config.sh --url` has it: the path alone.
    pub(crate) fn from_web_path(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match parts[..] {
            ["enterprises", enterprise] => Some(Self::Enterprise(enterprise.to_owned())),
            [org] => Some(Self::Org(org.to_owned())),
            [owner, repo] => Some(Self::Repo(owner.to_owned(), repo.to_owned())),
            _ => None,
        }
    }

    /// The path in the REST API, without a leading slash.
    pub(crate) fn api_path(&self) -> String {
        match self {
            Self::Org(org) => format!("orgs/{org}"),
            Self::Repo(owner, repo) => format!("repos/{owner}/{repo}"),
            Self::Enterprise(enterprise) => format!("enterprises/{enterprise}"),
        }
    }

    /// The path on the web, without a leading slash.
    pub(crate) fn web_path(&self) -> String {
        match self {
            Self::Org(org) => org.clone(),
            Self::Repo(owner, repo) => format!("{owner}/{repo}"),
            Self::Enterprise(enterprise) => format!("enterprises/{enterprise}"),
        }
    }

    /// The account that owns it.
    pub(crate) fn account(&self) -> &str {
        match self {
            Self::Org(name) | Self::Repo(name, _) | Self::Enterprise(name) => name,
        }
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Org(one), Self::Org(two)) | (Self::Enterprise(one), Self::Enterprise(two)) => {
                one.eq_ignore_ascii_case(two)
            }
            (Self::Repo(owner, repo), Self::Repo(other_owner, other_repo)) => {
                owner.eq_ignore_ascii_case(other_owner) && repo.eq_ignore_ascii_case(other_repo)
            }
            _ => false,
        }
    }

    /// Whether its runners serve this repository. Every enterprise owns every organization.
    pub(crate) fn serves(&self, repo: &str) -> bool {
        let owner = repo.split('/').next().unwrap_or(repo);
        match self {
            Self::Enterprise(_) => true,
            Self::Org(org) => org.eq_ignore_ascii_case(owner),
            Self::Repo(..) => self.web_path().eq_ignore_ascii_case(repo),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_paths_name_scopes_and_scopes_serve_what_is_theirs() {
        let org = Scope::from_web_path("/Acme").unwrap();
        let repo = Scope::from_web_path("/acme/app/").unwrap();
        let enterprise = Scope::from_web_path("enterprises/big").unwrap();
        assert_eq!(Scope::from_web_path("/a/b/c"), None);
        assert_eq!(Scope::from_web_path("/"), None);
        assert!(org.serves("acme/app") && !org.serves("acme2/app"));
        assert!(repo.serves("ACME/App") && !repo.serves("acme/app2"));
        assert!(enterprise.serves("any/thing"));
        assert_eq!(enterprise.api_path(), "enterprises/big");
    }
}
