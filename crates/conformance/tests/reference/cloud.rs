//! A cloud in memory.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_manager_conformance::Fault;
use runner_manager_core::{
    BackendContext, Budget, BudgetLimits, Capability, Cloud, CloudInstance, CloudRunnerState,
    Error, ErrorKind, Guest, LaunchSpec, Leftover, NamePrefix, Result, Retry, RunnerName, Support,
};

use crate::guest::MemoryGuest;
use crate::mutation::{Mutation, Variant};
use crate::world::{Belonging, Instance, World};

/// How many instances one page of a list holds.
pub(crate) const PAGE: usize = 5;
/// How often a request is sent that the cloud fails to answer.
const ATTEMPTS: usize = 3;

#[derive(Clone)]
pub(crate) struct MemoryCloud {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) mutation: Option<Mutation>,
    budget: Arc<Budget>,
    capability: Capability,
    /// What this manager has made or seen, for the bugs that remember.
    pub(crate) known: Arc<Mutex<Vec<Instance>>>,
}

pub(crate) fn refused(what: &'static str) -> Error {
    Error::new(ErrorKind::BadAnswer, what)
}

impl MemoryCloud {
    pub(crate) fn new(
        world: Arc<Mutex<World>>,
        context: &BackendContext,
        variant: Variant,
        mutation: Option<Mutation>,
    ) -> Self {
        let limits = BudgetLimits {
            rate: 2_000.0,
            floor: 4.0,
            burst: 200,
            recovery: Duration::from_millis(200),
            max_wait: Duration::from_millis(300),
        };
        Self {
            world,
            mutation,
            budget: context.budgets.of("memory", limits),
            capability: capability(variant),
            known: Arc::default(),
        }
    }

    pub(crate) fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// One request to the cloud, as it would go over a wire: under the budget, repeated a few
    /// times where the cloud is down.
    pub(crate) async fn request(&self, prefix: &NamePrefix) -> Result<()> {
        let most = if self.has(Mutation::RetriesForever) {
            100
        } else {
            ATTEMPTS
        };
        let mut attempts = 0;
        loop {
            attempts += 1;
            let answer = if self.has(Mutation::BudgetIgnored) {
                self.send(prefix).await
            } else {
                self.budget.spend(self.send(prefix)).await
            };
            match answer {
                Err(error) if error.kind() == ErrorKind::Unreachable && attempts < most => {}
                answer => return answer,
            }
        }
    }

    async fn send(&self, prefix: &NamePrefix) -> Result<()> {
        tokio::task::yield_now().await;
        let (throttled, down, hangs) = {
            let mut world = self.world();
            world.call(prefix);
            let throttled = world.hit(prefix, Fault::Throttle);
            let down = world.hit(prefix, Fault::Down);
            (throttled, down, world.hit(prefix, Fault::Hang))
        };
        if hangs {
            std::future::pending::<()>().await;
        }
        if throttled && self.has(Mutation::ThrottlingIsUnknown) {
            return Err(refused("the cloud said 429"));
        }
        if throttled {
            let error = Error::new(ErrorKind::RateLimited, "too many requests");
            return Err(error.with_retry(Retry::After(Duration::from_millis(20))));
        }
        if down {
            return Err(Error::new(ErrorKind::Unreachable, "the cloud is down"));
        }
        Ok(())
    }

    pub(crate) fn show(&self, instance: &Instance) -> CloudInstance {
        CloudInstance {
            name: instance.name.clone(),
            native_id: instance.id.to_string(),
            state: self.state(instance.native),
            created_at: self.born(instance.created_at),
            addresses: Vec::new(),
        }
    }

    /// The table of native states.
    fn state(&self, native: &str) -> CloudRunnerState {
        match native {
            "building" => CloudRunnerState::Created,
            "active" => CloudRunnerState::Active,
            "stopped" if self.has(Mutation::StoppedIsActive) => CloudRunnerState::Active,
            "shutoff" if self.has(Mutation::StateUnmapped) => {
                CloudRunnerState::Unexpected(native.to_owned())
            }
            "stopped" | "shutoff" => CloudRunnerState::Stopped,
            "failed" => CloudRunnerState::Error,
            "deleting" => CloudRunnerState::Deleted,
            "unknown" => CloudRunnerState::Unknown,
            other => CloudRunnerState::Unexpected(other.to_owned()),
        }
    }

    fn born(&self, at: Timestamp) -> Timestamp {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        match self.mutation {
            Some(Mutation::AgeIgnored) => Timestamp::UNIX_EPOCH,
            Some(Mutation::AlwaysNew) => Timestamp::MAX,
            Some(Mutation::LocalTime) => at - hours(9),
            // The twin was made at the beginning of all times.
            Some(Mutation::KeepsOldest) if at == Timestamp::UNIX_EPOCH => {
                Timestamp::now() + hours(1)
            }
            _ => at,
        }
    }

    /// The instances that this cloud takes for those of a prefix, of those that lists show.
    fn mine(&self, world: &mut World, prefix: &NamePrefix) -> Vec<Instance> {
        let named = |i: &Instance| {
            if self.has(Mutation::BarePrefix) {
                i.name.to_string().starts_with(prefix.as_str())
            } else {
                i.name.prefix() == prefix
            }
        };
        let mut mine = world.listed(prefix);
        mine.retain(|i| named(i) && (i.marked || self.has(Mutation::IgnoresMark)));
        if self.has(Mutation::OddShapes) {
            mine.extend(world.odd(prefix));
        }
        mine
    }
}

fn capability(variant: Variant) -> Capability {
    let unless = |without: Variant, why: &'static str| {
        if variant == without {
            Support::Unsupported(why)
        } else {
            Support::Native
        }
    };
    Capability {
        jit_config: unless(Variant::NoGuest, "this variant takes no JIT configs"),
        registration_token: unless(Variant::NoToken, "this variant takes no tokens"),
        claim: Support::Unsupported("nothing boots in memory"),
        guest: unless(Variant::NoGuest, "this variant has no way in"),
        cloud_init: unless(Variant::NoGuest, "this variant has no cloud-init"),
        idle_stop: unless(Variant::NoGuest, "this variant has no way in"),
        shell: Support::Unsupported("nothing runs in memory"),
        console: Support::Unsupported("memory has no console"),
        resource_limits: Support::Unsupported("memory has no limits"),
        support_services: Support::Unsupported("nothing runs in memory"),
        outlives_manager: Support::Native,
        max_instances: None,
        max_user_data_bytes: None,
    }
}

#[async_trait]
impl Cloud for MemoryCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        crate::launch::launch(self, spec).await
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        self.request(name.prefix()).await?;
        let world = self.world();
        let marked = |i: &&Instance| i.marked || self.has(Mutation::GetIgnoresMark);
        let named = world.instances.iter().filter(|i| i.name == *name);
        let named = named.filter(marked);
        let age = |i: &&Instance| (i.created_at, i.id);
        let mut found = if self.has(Mutation::KeepsOldest) {
            named.min_by_key(age).cloned()
        } else {
            named.max_by_key(age).cloned()
        };
        let mut known = self.known.lock().unwrap();
        let before = known.iter().find(|i| i.name == *name).cloned();
        match self.mutation {
            Some(Mutation::OwnRunnersOnly) => found = found.filter(|_| before.is_some()),
            Some(Mutation::VanishedStays) => {
                known.extend(found.clone());
                found = found.or(before);
            }
            _ => {}
        }
        Ok(found.map(|i| self.show(&i)))
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        let mut shown = Vec::new();
        loop {
            self.request(prefix).await?;
            let mut world = self.world();
            world.count_list(prefix);
            if world.hit(prefix, Fault::List) {
                return Err(refused("the list was refused"));
            }
            let rest = self.mine(&mut world, prefix).split_off(shown.len());
            shown.extend(rest.iter().take(PAGE).map(|i| self.show(i)));
            if rest.len() <= PAGE || self.has(Mutation::OnePage) {
                return Ok(shown);
            }
        }
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        crate::remove::terminate(self, instance).await
    }

    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        self.request(prefix).await?;
        if self.has(Mutation::LeftoversForgotten) {
            return Ok(Vec::new());
        }
        let mut world = self.world();
        let mut listed = world.listed(prefix);
        if self.has(Mutation::OrphansWithoutList) && world.hit(prefix, Fault::List) {
            listed.clear();
        }
        let lives = |b: &Belonging| listed.iter().any(|i| Some(i.id) == b.of);
        let mine = |b: &&Belonging| {
            let named = b.name.prefix() == prefix || self.has(Mutation::LeftoversOfAll);
            let sought = b.kind != "keys" || !self.has(Mutation::KeysForgotten);
            named && sought && !b.hidden && !lives(b)
        };
        let shown = |b: &Belonging| Leftover {
            kind: b.kind,
            id: b.id.to_string(),
            name: b.name.clone(),
            created_at: Some(self.born(b.created_at)),
        };
        Ok(world.belongings.iter().filter(mine).map(shown).collect())
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        crate::remove::leftover(self, leftover).await
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        MemoryGuest::open(self, instance)
    }

    async fn console(&self, _: &CloudInstance) -> Result<Option<String>> {
        Ok(None)
    }
}
