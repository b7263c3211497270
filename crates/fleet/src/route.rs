//! Which pool a job is for: a pure function over labels.

use std::collections::HashMap;
use std::rc::Rc;

use runner_manager_core::{Label, Labels};
use runner_manager_github::RemoteJob;

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
    /// Of pools that fit equally well, the higher takes the job.
    pub(crate) priority: i32,
    /// Whether what waits is the pool's demand. A planner's pool serves jobs that it is told of by
    /// numbers only: none is counted on it, or nobody would launch a runner for it.
    pub(crate) counts: bool,
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

/// The places of the pools that may take a job, the one that should first: the fewest labels that
/// the job did not ask for, then the highest priority, then the order of the configuration. GitHub
/// gives a job to a runner that offers all labels of the job, whatever their letter case, and
/// whether it is registered with the job's repository or with its organization. A job without
/// labels is for none: its labels are missing, and any pool would be a guess.
fn candidates(routes: &[Route], repository: &str, labels: &[String]) -> Vec<usize> {
    let offers = |r: &Route| {
        let all = |wanted: &String| r.labels.iter().any(|offered| offered.matches(wanted));
        !labels.is_empty() && labels.iter().all(all)
    };
    let mut found: Vec<usize> = (0..routes.len())
        .filter(|place| offers(&routes[*place]) && routes[*place].covers(repository))
        .collect();
    found.sort_by_key(|place| {
        let route = &routes[*place];
        (
            route.labels.iter().count(),
            std::cmp::Reverse(route.priority),
        )
    });
    found
}

/// The pool that should take a job.
pub(crate) fn route<'a>(
    routes: &'a [Route],
    repository: &str,
    labels: &[String],
) -> Option<&'a str> {
    let found = candidates(routes, repository, labels);
    found.first().map(|place| routes[*place].pool.as_str())
}

/// What decides which pools may take a job: its owner, its repository, and its labels.
type Kind<'j> = (&'j str, &'j str, &'j [String]);

/// How many of the waiting jobs, oldest first, are for which pool. A pool without room leaves
/// its jobs to the next that may take them; jobs that nobody has room for stay with the first.
/// A pool that is not in `room` has not said yet, and counts as empty.
pub(crate) fn share<'a, 'j>(
    routes: &'a [Route],
    jobs: impl IntoIterator<Item = &'j RemoteJob>,
    room: &HashMap<String, usize>,
) -> HashMap<&'a str, usize> {
    let mut left: Vec<Option<usize>> = routes.iter().map(|r| room.get(&r.pool).copied()).collect();
    let mut shares = vec![0_usize; routes.len()];
    // Jobs are many, and their kinds are few; a burst is mostly of one.
    let mut kinds: HashMap<Kind<'_>, Rc<[usize]>> = HashMap::new();
    let mut last = None;
    for job in jobs {
        let kind = (job.owner.as_str(), job.repo.as_str(), job.labels.as_slice());
        let (_, found) = match last.take() {
            Some(last @ (of, _)) if of == kind => last,
            _ => {
                let found = kinds.entry(kind).or_insert_with(|| {
                    let repository = format!("{}/{}", job.owner, job.repo);
                    let mut found = candidates(routes, &repository, &job.labels);
                    found.retain(|place| routes[*place].counts);
                    found.into()
                });
                (kind, found.clone())
            }
        };
        let has_room = |place: &&usize| left[**place] != Some(0);
        if let Some(place) = found.iter().find(has_room).or(found.first()) {
            shares[*place] += 1;
            left[*place] = left[*place].map(|room| room.saturating_sub(1));
        }
        last = Some((kind, found));
    }
    let named = routes.iter().map(|r| r.pool.as_str()).zip(shares);
    named.filter(|(_, share)| *share > 0).collect()
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
            priority: 0,
            counts: true,
        }
    }

    fn jobs(count: u64, labels: &[&str]) -> Vec<RemoteJob> {
        let job = |id| RemoteJob {
            id,
            run_id: id,
            name: "build".into(),
            owner: "o".into(),
            repo: "r".into(),
            labels: labels.iter().map(ToString::to_string).collect(),
            status: "queued".into(),
            conclusion: None,
            runner_name: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            started_at: None,
            completed_at: None,
        };
        (0..count).map(job).collect()
    }

    #[test]
    fn jobs_spill_to_the_next_pool_when_the_first_is_full() {
        let preferred = Route {
            priority: 5,
            ..pool("preferred", &["small"])
        };
        let routes = [
            pool("plain", &["small"]),
            preferred,
            pool("big", &["small", "big"]),
        ];
        let waiting = jobs(10, &["small"]);
        let rooms = |all: &[(&str, usize)]| -> HashMap<String, usize> {
            all.iter()
                .map(|(pool, room)| ((*pool).to_owned(), *room))
                .collect()
        };
        let shares = |room| share(&routes, &waiting, &room);
        let all = HashMap::from([("preferred", 10)]);
        assert_eq!(shares(rooms(&[])), all, "nobody has said how full it is");
        let spilled = shares(rooms(&[("preferred", 3), ("plain", 0), ("big", 4)]));
        // Three have no place at all, and wait for the first.
        assert_eq!(spilled, HashMap::from([("preferred", 6), ("big", 4)]));
        let planned = Route {
            counts: false,
            priority: 9,
            ..pool("planned", &["small"])
        };
        let mixed = [routes[0].clone(), planned];
        let all = HashMap::from([("plain", 10)]);
        assert_eq!(share(&mixed, &waiting, &rooms(&[])), all, "it counts none");
        let other = jobs(2, &["gpu"]);
        assert!(share(&routes, &other, &rooms(&[])).is_empty());
    }

    fn to<'a>(routes: &'a [Route], wanted: &[&str]) -> Option<&'a str> {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        route(routes, "O/r", &wanted)
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
        assert_eq!(
            to(&routes, &[]),
            None,
            "a job without labels is for no pool"
        );
        assert_eq!(route(&routes, "o/x", &["gpu".into()]), None);
    }

    #[test]
    fn a_job_of_a_repository_is_for_one_pool_although_two_scopes_serve_it() {
        let of_repository = Route {
            scope: "/repos/o/r".into(),
            ..pool("repository", &["small"])
        };
        let of_organization = Route {
            repositories: Vec::new(),
            priority: 1,
            ..pool("organization", &["small"])
        };
        let routes = [of_repository, of_organization];
        let rooms = |room| HashMap::from([("organization".to_owned(), room)]);
        let waiting = jobs(3, &["small"]);
        let all = HashMap::from([("organization", 3)]);
        assert_eq!(share(&routes, &waiting, &rooms(9)), all);
        let split = HashMap::from([("organization", 2), ("repository", 1)]);
        assert_eq!(share(&routes, &waiting, &rooms(2)), split);
    }

    #[test]
    fn own_labels_come_after_the_three_and_none_twice() {
        let all = offered_labels(&labels(&["Linux", "gpu"]), Architecture::Arm64);
        let all: Vec<&str> = all.iter().map(Label::as_str).collect();
        assert_eq!(all, ["self-hosted", "linux", "arm64", "gpu"]);
    }
}
