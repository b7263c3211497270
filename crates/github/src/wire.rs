//! The parts of GitHub's answers that the client reads.
//!
//! Unknown fields are skipped: GitHub adds fields at any time.

use jiff::Timestamp;
use runner_manager_core::Secret;
use serde::{Deserialize, Deserializer};

use crate::model::{RemoteJob, RemoteRunner};

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

/// An absent list and `null` are both an empty list.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    Option::<Vec<T>>::deserialize(from).map(Option::unwrap_or_default)
}

#[derive(Deserialize)]
pub(crate) struct Token {
    #[serde(deserialize_with = "secret")]
    pub(crate) token: Secret,
    pub(crate) expires_at: Timestamp,
}

#[derive(Deserialize)]
pub(crate) struct Label {
    name: String,
}

#[derive(Deserialize)]
pub(crate) struct Runner {
    id: u64,
    name: String,
    status: String,
    busy: bool,
    #[serde(default, deserialize_with = "list")]
    labels: Vec<Label>,
    #[serde(default)]
    ephemeral: Option<bool>,
}

impl From<Runner> for RemoteRunner {
    fn from(runner: Runner) -> Self {
        Self {
            id: runner.id,
            name: runner.name,
            online: runner.status == "online",
            busy: runner.busy,
            labels: runner.labels.into_iter().map(|label| label.name).collect(),
            ephemeral: runner.ephemeral,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Jit {
    pub(crate) runner: Runner,
    #[serde(deserialize_with = "secret")]
    pub(crate) encoded_jit_config: Secret,
}

#[derive(Deserialize)]
pub(crate) struct Installation {
    pub(crate) id: u64,
}

#[derive(Deserialize)]
pub(crate) struct Group {
    pub(crate) id: u64,
    pub(crate) name: String,
}

#[derive(Deserialize)]
pub(crate) struct Run {
    pub(crate) id: u64,
}

#[derive(Deserialize)]
pub(crate) struct Job {
    id: u64,
    run_id: u64,
    name: String,
    #[serde(default, deserialize_with = "list")]
    labels: Vec<String>,
    pub(crate) status: String,
    conclusion: Option<String>,
    runner_name: Option<String>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
}

impl Job {
    pub(crate) fn of(self, owner: &str, repo: &str) -> RemoteJob {
        RemoteJob {
            id: self.id,
            run_id: self.run_id,
            name: self.name,
            owner: owner.to_owned(),
            repo: repo.to_owned(),
            labels: self.labels,
            status: self.status,
            conclusion: self.conclusion,
            // GitHub gives an empty name before a runner is chosen.
            runner_name: self.runner_name.filter(|name| !name.is_empty()),
            created_at: self.created_at,
            started_at: self.started_at,
            completed_at: self.completed_at,
        }
    }
}

/// One page of a list. Each kind of list names its items differently.
pub(crate) trait Page: serde::de::DeserializeOwned + Send {
    type Item: Send;
    fn total(&self) -> u64;
    fn items(self) -> Vec<Self::Item>;
    fn id(item: &Self::Item) -> u64;
}

macro_rules! page {
    ($page:ident, $field:ident, $item:ty) => {
        #[derive(Deserialize)]
        pub(crate) struct $page {
            total_count: u64,
            $field: Vec<$item>,
        }

        impl Page for $page {
            type Item = $item;
            fn total(&self) -> u64 {
                self.total_count
            }
            fn items(self) -> Vec<$item> {
                self.$field
            }
            fn id(item: &$item) -> u64 {
                item.id
            }
        }
    };
}

page!(Runners, runners, Runner);
page!(Groups, runner_groups, Group);
page!(Runs, workflow_runs, Run);
page!(Jobs, jobs, Job);
