//! The parts of GitHub's answers that the client reads.
//!
//! Unknown fields are skipped: GitHub adds fields at any time.

use jiff::Timestamp;
use runner_manager_core::Secret;
use serde::{Deserialize, Deserializer};

use crate::lenient::{Maybe, Record, Texts};
use crate::model::{RemoteJob, RemoteRunner, Unread};
use crate::text::plain;

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

#[derive(Deserialize)]
pub(crate) struct Token {
    #[serde(deserialize_with = "secret")]
    pub(crate) token: Secret,
    pub(crate) expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Label {
    #[serde(default)]
    name: Maybe<String>,
}

#[derive(Deserialize)]
pub(crate) struct Runner {
    #[serde(default)]
    id: Maybe<u64>,
    #[serde(default)]
    name: Maybe<String>,
    #[serde(default)]
    status: Maybe<String>,
    #[serde(default)]
    busy: Maybe<bool>,
    #[serde(default, deserialize_with = "records")]
    labels: Vec<Record<Label>>,
    #[serde(default)]
    ephemeral: Maybe<bool>,
}

/// An absent list, `null` and what is no list are an empty list.
fn records<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(
    from: D,
) -> Result<Vec<Record<T>>, D::Error> {
    crate::lenient::Records::deserialize(from).map(|list| list.0)
}

impl Runner {
    /// The runner, if all is there that decisions go by.
    pub(crate) fn read(self) -> Result<RemoteRunner, Unread> {
        let (id, name) = (self.id.0, self.name.0.filter(|name| !name.is_empty()));
        match (id, &name, self.status.0, self.busy.0) {
            (Some(id), Some(name), Some(status), Some(busy)) => Ok(RemoteRunner {
                id,
                name: plain(name),
                online: status == "online",
                busy,
                labels: self
                    .labels
                    .into_iter()
                    .filter_map(|label| Some(plain(&label.0?.name.0?)))
                    .collect(),
                ephemeral: self.ephemeral.0,
            }),
            _ => Err(Unread { id, name }),
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
    #[serde(default)]
    id: Maybe<u64>,
    #[serde(default)]
    name: Maybe<String>,
}

/// A runner group: its id and its name.
#[derive(Clone)]
pub(crate) struct NamedGroup {
    pub(crate) id: u64,
    pub(crate) name: String,
}

impl Group {
    fn read(self) -> Result<NamedGroup, Unread> {
        match (self.id.0, self.name.0) {
            (Some(id), Some(name)) => Ok(NamedGroup { id, name }),
            (id, name) => Err(Unread { id, name }),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Run {
    #[serde(default)]
    id: Maybe<u64>,
    #[serde(default)]
    updated_at: Maybe<Timestamp>,
    #[serde(default)]
    created_at: Maybe<Timestamp>,
}

/// A workflow run that is not over.
#[derive(Debug, Clone)]
pub(crate) struct OpenRun {
    pub(crate) id: u64,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) created_at: Option<Timestamp>,
}

impl Run {
    fn read(self) -> Result<OpenRun, Unread> {
        let id = self.id.0.ok_or(Unread {
            id: None,
            name: None,
        })?;
        Ok(OpenRun {
            id,
            updated_at: self.updated_at.0,
            created_at: self.created_at.0,
        })
    }
}

/// A job, as a list, its own address and a webhook show it.
#[derive(Deserialize)]
pub(crate) struct Job {
    #[serde(default)]
    id: Maybe<u64>,
    #[serde(default)]
    run_id: Maybe<u64>,
    #[serde(default)]
    name: Maybe<String>,
    #[serde(default)]
    labels: Texts,
    #[serde(default)]
    status: Maybe<String>,
    #[serde(default)]
    conclusion: Maybe<String>,
    #[serde(default)]
    runner_id: Maybe<u64>,
    #[serde(default)]
    runner_name: Maybe<String>,
    #[serde(default)]
    created_at: Maybe<Timestamp>,
    #[serde(default)]
    started_at: Maybe<Timestamp>,
    #[serde(default)]
    completed_at: Maybe<Timestamp>,
}

impl Job {
    /// GitHub's id of the runner that took the job.
    pub(crate) fn runner_id(&self) -> Option<u64> {
        self.runner_id.0.filter(|id| *id != 0)
    }

    /// The job, if its id, its labels and how far it is are there; `status` goes before the job's
    /// own. A server that does not say when the job was made (old ones of GitHub Enterprise do
    /// not) leaves the start, and else now.
    pub(crate) fn of(
        self,
        owner: &str,
        repo: &str,
        status: Option<&str>,
    ) -> Result<RemoteJob, Unread> {
        let name = self.name.0.unwrap_or_default();
        let status = status.map(str::to_owned).or(self.status.0);
        match (self.id.0, self.labels.0, status) {
            (Some(id), Some(labels), Some(status)) => Ok(RemoteJob {
                id,
                run_id: self.run_id.0.unwrap_or(0),
                name: plain(&name),
                owner: owner.to_owned(),
                repo: repo.to_owned(),
                labels: labels.iter().map(|label| plain(label)).collect(),
                status: plain(&status),
                conclusion: self.conclusion.0.as_deref().map(plain),
                // GitHub gives an empty name before a runner is chosen.
                runner_name: self
                    .runner_name
                    .0
                    .filter(|name| !name.is_empty())
                    .map(|name| plain(&name)),
                created_at: self
                    .created_at
                    .0
                    .or(self.started_at.0)
                    .unwrap_or_else(Timestamp::now),
                started_at: self.started_at.0,
                completed_at: self.completed_at.0,
            }),
            (id, _, _) => Err(Unread {
                id,
                name: Some(name).filter(|name| !name.is_empty()),
            }),
        }
    }
}

/// One page of a list. Each kind of list names its items differently.
pub(crate) trait Page: serde::de::DeserializeOwned + Send {
    type Item: Send + Clone;
    /// How many items the whole list has, where the page says so.
    fn total(&self) -> Option<u64>;
    fn items(self) -> Vec<Result<Self::Item, Unread>>;
    fn id(item: &Self::Item) -> u64;
}

const NOTHING: Unread = Unread {
    id: None,
    name: None,
};

macro_rules! page {
    ($page:ident, $field:ident, $record:ty => $item:ty, $read:expr) => {
        #[derive(Deserialize)]
        pub(crate) struct $page {
            #[serde(default)]
            total_count: Maybe<u64>,
            $field: Vec<Record<$record>>,
        }

        impl Page for $page {
            type Item = $item;
            fn total(&self) -> Option<u64> {
                self.total_count.0
            }
            fn items(self) -> Vec<Result<$item, Unread>> {
                let read = |record: Record<$record>| record.0.ok_or(NOTHING).and_then($read);
                self.$field.into_iter().map(read).collect()
            }
            fn id(item: &$item) -> u64 {
                item.id
            }
        }
    };
}

page!(Runners, runners, Runner => RemoteRunner, Runner::read);
page!(Groups, runner_groups, Group => NamedGroup, Group::read);
page!(Runs, workflow_runs, Run => OpenRun, Run::read);
// The repository is the caller's to add.
page!(Jobs, jobs, Job => RemoteJob, |job: Job| job.of("", "", None));
