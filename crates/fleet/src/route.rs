//! Which pool a job is for: a pure function over labels.

use runner_manager_core::{Label, Labels};

use crate::Architecture;

/// Every label that a pool's runners offer: `self-hosted`, `linux`, the architecture, and its
/// own.
///
/// A runner that registers with a just-in-time config gets only the labels of the request, so
/// that the first three have to be in it.
#[must_use]
pub fn offered_labels(own: &Labels, architecture: Architecture) -> Labels {
    let mut labels: Vec<Label> = ["self-hosted", "linux", architecture.label()]
        .into_iter()
        .filter_map(|label| Label::new(label).ok())
        .collect();
    for label in own.iter() {
        if !labels.contains(label) {
            labels.push(label.clone());
        }
    }
    // Cannot fail: the list is not empty and holds none twice.
    Labels::new(labels).unwrap_or_else(|_| own.clone())
}

/// A pool as the router sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) pool: String,
    /// The path of the scope on the API.
    pub(crate) scope: String,
    /// `owner/repo` in lower case. Of an organization or enterprise, none stands for all.
    pub(crate) repositories: Vec<String>,
    pub(crate) labels: Labels,
}

impl Route {
    /// Whether jobs of this repository may be for the pool.
    pub(crate) fn covers(&self, repository: &str) -> bool {
        let repository = repository.to_lowercase();
        if !self.repositories.is_empty() {
            return self.repositories.contains(&repository);
        }
        let owner = repository.split('/').next().unwrap_or_default();
        match self.scope.strip_prefix("/orgs/") {
            Some(org) => org.eq_ignore_ascii_case(owner),
            None => self.scope.starts_with("/enterprises/"),
        }
    }
}

/// The pool for a job: of those that may take it, the one with the fewest labels that the job
/// did not ask for; of equals, the first in the configuration. GitHub gives a job to a runner
/// that offers all labels of the job, whatever their letter case.
pub(crate) fn route<'a>(
    routes: &'a [Route],
    scope: &str,
    repository: &str,
    labels: &[String],
) -> Option<&'a str> {
    routes
        .iter()
        .filter(|r| r.scope == scope && r.covers(repository))
        .filter(|r| {
            labels
                .iter()
                .all(|wanted| r.labels.iter().any(|offered| offered.matches(wanted)))
        })
        .min_by_key(|r| r.labels.iter().count())
        .map(|r| r.pool.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(list: &[&str]) -> Labels {
        Labels::new(list.iter().map(|l| Label::new(*l).unwrap()).collect()).unwrap()
    }

    fn pool(name: &str, own: &[&str]) -> Route {
        Route {
            pool: name.into(),
            scope: "/orgs/o".into(),
            repositories: vec!["o/r".into()],
            labels: offered_labels(&labels(own), Architecture::X64),
        }
    }

    fn to<'a>(routes: &'a [Route], wanted: &[&str]) -> Option<&'a str> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        route(routes, "/orgs/o", "O/r", &wanted)
    }

    #[test]
    fn a_job_goes_to_the_most_specific_pool_that_offers_all_its_labels() {
        let routes = [
            pool("gpu", &["gpu", "big"]),
            pool("plain", &["small"]),
            pool("twin", &["small"]),
        ];
        assert_eq!(to(&routes, &["self-hosted", "GPU"]), Some("gpu"));
        assert_eq!(to(&routes, &["Self-Hosted", "Linux", "X64"]), Some("plain"));
        assert_eq!(to(&routes, &["self-hosted", "gpu", "small"]), None);
        assert_eq!(to(&routes, &["ubuntu-latest"]), None);
        let other = route(&routes, "/orgs/other", "o/r", &["gpu".into()]);
        assert_eq!(other, None);
        assert_eq!(route(&routes, "/orgs/o", "o/x", &["gpu".into()]), None);
    }

    #[test]
    fn own_labels_come_after_the_three_and_none_twice() {
        let all = offered_labels(&labels(&["Linux", "gpu"]), Architecture::Arm64);
        let all: Vec<&str> = all.iter().map(Label::as_str).collect();
        assert_eq!(all, ["self-hosted", "linux", "arm64", "gpu"]);
    }
}
