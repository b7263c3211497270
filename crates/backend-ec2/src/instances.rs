//! Looking at instances and ending them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types::{Filter, Instance};
use jiff::Timestamp;
use runner_manager_core::{
    CloudInstance, CloudRunnerState, Effect, Error, ErrorKind, NamePrefix, Result, Retry,
    RunnerName,
};

use crate::api::Api;
use crate::batch::{Batch, again};
use crate::memory::Memory;
use crate::{state, tags};

/// How many instances a page holds at most.
const PAGE: i32 = 1_000;
/// How many pages there may be.
const PAGES: usize = 500;
/// How many values a filter takes.
const VALUES: usize = 200;
/// How often, and how long after each other, an instance that may yet appear is ended.
const END_TRIES: u32 = 10;
const END_PAUSE: Duration = Duration::from_secs(2);

/// The instances of a pool.
pub(crate) struct Instances {
    api: Api,
    prefix: NamePrefix,
    memory: Arc<Memory>,
    looks: Batch<RunnerName, Option<CloudInstance>>,
    ends: Batch<String, ()>,
}

impl Instances {
    pub(crate) fn new(api: Api, prefix: NamePrefix) -> Self {
        let memory = Arc::new(Memory::default());
        let (of_looks, of_ends, seen) = (api.clone(), api.clone(), Arc::clone(&memory));
        Self {
            looks: Batch::new(move |names| {
                let (api, memory) = (of_looks.clone(), Arc::clone(&seen));
                Box::pin(async move { get(&api, &memory, names).await })
            }),
            ends: Batch::new(move |ids| {
                let api = of_ends.clone();
                Box::pin(async move { terminate(&api, ids).await })
            }),
            api,
            prefix,
            memory,
        }
    }

    /// Notes an instance that was just launched.
    pub(crate) fn launched(&self, instance: &CloudInstance) {
        self.memory.launched(instance);
    }

    /// Whether an instance of a name is known to live, without a look.
    pub(crate) fn knows(&self, name: &RunnerName) -> bool {
        self.memory.named(name).is_some()
    }

    /// The living instance of a name, the newest of several.
    pub(crate) async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        self.looks.ask(name.clone()).await
    }

    /// The newest instance of a name that EC2 shows, ended or not.
    pub(crate) async fn latest(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        let found = describe(&self.api, of_names(std::slice::from_ref(name))).await?;
        let found = owned(found, &self.prefix).into_iter();
        // One that lives comes before one that has ended.
        Ok(found.max_by_key(|i| (i.state != CloudRunnerState::Deleted, i.created_at)))
    }

    /// All living instances of the prefix. What was known and is missing is looked for once
    /// more: no single look makes an instance gone.
    pub(crate) async fn list(&self) -> Result<Vec<CloudInstance>> {
        let mark = filter(&format!("tag:{}", tags::PREFIX), [self.prefix.to_string()]);
        let found = describe(&self.api, vec![mark]).await?;
        let mut alive = self.memory.see(owned(found, &self.prefix));
        let missing = self.memory.missing(&alive);
        alive.extend(confirm(&self.api, &self.memory, missing).await?);
        Ok(alive)
    }

    /// Ends an instance. One that is gone is `Ok`; one that was launched a moment ago and is not
    /// found is not gone.
    pub(crate) async fn end(&self, id: &str) -> Result<()> {
        let mut tries = 1;
        loop {
            match self.ends.ask(id.to_owned()).await {
                Ok(()) => break,
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Err(_) if !self.memory.may_appear(id) => break,
                Err(error) if tries == END_TRIES => {
                    let error = error.with_effect(Effect::Partial);
                    return Err(error.with_retry(Retry::Exhausted { attempts: tries }));
                }
                Err(_) => tokio::time::sleep(END_PAUSE).await,
            }
            tries += 1;
        }
        self.memory.ended(id);
        Ok(())
    }
}

/// A filter of any of several values.
pub(crate) fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    let values = values.into_iter().collect();
    Filter::builder()
        .name(name)
        .set_values(Some(values))
        .build()
}

/// The filters of some names of one prefix.
fn of_names(names: &[RunnerName]) -> Vec<Filter> {
    let prefix = names.first().map(|name| name.prefix().to_string());
    let tag = |key: &str| format!("tag:{key}");
    vec![
        filter(&tag(tags::NAME), names.iter().map(ToString::to_string)),
        filter(&tag(tags::PREFIX), prefix),
    ]
}

/// All pages, or an error.
async fn describe(api: &Api, filters: Vec<Filter>) -> Result<Vec<Instance>> {
    let (mut all, mut token) = (Vec::new(), None);
    for _ in 0..PAGES {
        let page = api
            .call("DescribeInstances", || {
                api.ec2
                    .describe_instances()
                    .max_results(PAGE)
                    .set_filters(Some(filters.clone()))
                    .set_next_token(token.clone())
                    .send()
            })
            .await?;
        let reservations = page.reservations.unwrap_or_default();
        all.extend(
            reservations
                .into_iter()
                .flat_map(|r| r.instances.unwrap_or_default()),
        );
        token = page.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(all);
        }
    }
    Err(Error::new(ErrorKind::BadAnswer, "the list has no end").with_context("pages", PAGES))
}

/// Those of the prefix, those included that have ended a moment ago.
fn owned(found: Vec<Instance>, prefix: &NamePrefix) -> Vec<CloudInstance> {
    let ours = found.into_iter().filter_map(|instance| {
        let name = tags::owner(instance.tags(), prefix)?;
        convert(name, &instance)
    });
    ours.collect()
}

/// An instance in the contract's terms.
pub(crate) fn convert(name: RunnerName, instance: &Instance) -> Option<CloudInstance> {
    let native = instance
        .state
        .as_ref()
        .and_then(|state| state.name.as_ref());
    let addresses = [instance.private_ip_address(), instance.public_ip_address()];
    let addresses = addresses
        .into_iter()
        .flatten()
        .filter_map(|a| a.parse().ok());
    Some(CloudInstance {
        name,
        native_id: instance.instance_id.clone()?,
        state: native.map_or(CloudRunnerState::Unknown, |native| {
            state::map(native.as_str())
        }),
        created_at: instance
            .launch_time
            .as_ref()
            .map_or_else(Timestamp::now, timestamp),
        addresses: addresses.collect(),
    })
}

/// A time of the SDK.
pub(crate) fn timestamp(time: &DateTime) -> Timestamp {
    Timestamp::from_second(time.secs()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Looks at instances by id, whatever their state, and says which of them may be taken for
/// alive.
async fn confirm(
    api: &Api,
    memory: &Memory,
    missing: Vec<CloudInstance>,
) -> Result<Vec<CloudInstance>> {
    let mut alive = Vec::new();
    for some in missing.chunks(VALUES) {
        let ids = some.iter().map(|instance| instance.native_id.clone());
        // A filter says nothing of ids that there are not; asked for by id, they are an error.
        let found = describe(api, vec![filter("instance-id", ids)]).await?;
        let found: HashMap<&str, &Instance> = found
            .iter()
            .filter_map(|i| Some((i.instance_id()?, i)))
            .collect();
        for known in some {
            let id = known.native_id.as_str();
            match found
                .get(id)
                .map(|instance| convert(known.name.clone(), instance))
            {
                Some(Some(shown)) if shown.state != CloudRunnerState::Deleted => alive.push(shown),
                Some(_) => memory.forget(id),
                None if memory.may_appear(id) => alive.push(known.clone()),
                None => {}
            }
        }
    }
    Ok(alive)
}

/// The living instances of some names, in their order.
async fn get(
    api: &Api,
    memory: &Memory,
    names: Vec<RunnerName>,
) -> Vec<Result<Option<CloudInstance>>> {
    match get_all(api, memory, &names).await {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(error) => names.iter().map(|_| Err(again(&error))).collect(),
    }
}

async fn get_all(
    api: &Api,
    memory: &Memory,
    names: &[RunnerName],
) -> Result<Vec<Option<CloudInstance>>> {
    let Some(prefix) = names.first().map(RunnerName::prefix) else {
        return Ok(Vec::new());
    };
    let found = describe(api, of_names(names)).await?;
    let mut shown = memory.see(owned(found, prefix));
    let is_missing = |name: &&RunnerName| !shown.iter().any(|instance| instance.name == **name);
    let missing: Vec<_> = names
        .iter()
        .filter(is_missing)
        .filter_map(|n| memory.named(n))
        .collect();
    shown.extend(confirm(api, memory, missing).await?);
    let newest = |name: &RunnerName| {
        let of_name = shown.iter().filter(|instance| instance.name == *name);
        of_name
            .max_by_key(|i| (i.created_at, i.native_id.clone()))
            .cloned()
    };
    Ok(names.iter().map(newest).collect())
}

/// Ends instances in one call. EC2 refuses a call as a whole, so that after a refusal each goes
/// by itself.
async fn terminate(api: &Api, ids: Vec<String>) -> Vec<Result<()>> {
    let end = async |ids: Vec<String>| {
        let call = || {
            api.ec2
                .terminate_instances()
                .set_instance_ids(Some(ids.clone()))
                .send()
        };
        api.call("TerminateInstances", call).await.map(|_| ())
    };
    match end(ids.clone()).await {
        Ok(()) => ids.iter().map(|_| Ok(())).collect(),
        Err(error) if ids.len() == 1 => vec![Err(error)],
        // Nothing is made better by more calls.
        Err(error) if error.kind() == ErrorKind::RateLimited => {
            ids.iter().map(|_| Err(again(&error))).collect()
        }
        Err(_) => {
            let mut ended = Vec::with_capacity(ids.len());
            for id in ids {
                ended.push(end(vec![id]).await);
            }
            ended
        }
    }
}
