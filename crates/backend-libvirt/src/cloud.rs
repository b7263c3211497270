//! The backend's [`Cloud`], over all hosts of a pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use runner_manager_core::{
    Bootstrap, Capability, Cloud, CloudInstance, CloudRunnerState, Effect, Error, ErrorKind,
    ExecGuest, Guest, LaunchSpec, Leftover, NamePrefix, Result, RunnerName, Support, Timings,
};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::agent::Agent;
use crate::config::{Accelerator, Firmware, LibvirtConfig};
use crate::host::{Host, Lane, Opened};
use crate::launch::{Launch, UnderWay};
use crate::names::Attempt;
use crate::native::Listener;
use crate::place::{self, Capacity, Need};
use crate::pool::{self, Pool};
use crate::{launch, list, seed};

/// The most bytes of user-data. The data source has no limit of its own.
const MAX_USER_DATA: u32 = 1024 * 1024;

/// How long a host may take to say what it has room for.
const PLACEMENT: Duration = Duration::from_secs(10);

/// Runners as domains of libvirt hosts.
///
/// Work that was begun on a host goes on when its future is dropped; a launch that nobody waits
/// for is undone.
pub struct LibvirtCloud {
    config: Arc<LibvirtConfig>,
    hosts: Vec<Arc<Host>>,
    capability: Capability,
    guest_timeout: Duration,
    /// One launch at a time looks for its place.
    placing: tokio::sync::Mutex<()>,
    /// Told of every event of a domain.
    events: Arc<Notify>,
}

/// Turns true when it is dropped.
struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn capability() -> Capability {
    Capability {
        jit_config: Support::Native,
        registration_token: Support::Native,
        claim: Support::Native,
        guest: Support::Native,
        cloud_init: Support::Native,
        idle_stop: Support::Native,
        shell: Support::Native,
        console: Support::Native,
        resource_limits: Support::Native,
        support_services: Support::Native,
        outlives_manager: Support::Native,
        max_instances: None,
        max_user_data_bytes: Some(MAX_USER_DATA),
    }
}

impl LibvirtCloud {
    /// Checks the configuration and what the hosts hold, without changing them. Hosts that
    /// cannot be reached are left out, as long as there is another.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] with the key; what a host lacks; [`ErrorKind::Unreachable`]
    /// when no host can be reached.
    pub async fn connect(config: LibvirtConfig, timings: &Timings) -> Result<Self> {
        config.check()?;
        config.boot.check()?;
        let hosts = config.hosts.iter();
        let events = Arc::new(Notify::new());
        let heard = Arc::clone(&events);
        let listener: Arc<Listener> = Arc::new(move || heard.notify_one());
        let host = |host| Host::new(host, config.call_timeout(), Arc::clone(&listener));
        let hosts = hosts.map(|config| Arc::new(host(config.clone()))).collect();
        let cloud = Self {
            hosts,
            config: Arc::new(config),
            capability: capability(),
            guest_timeout: timings.guest_timeout,
            placing: tokio::sync::Mutex::default(),
            events,
        };
        let checks = cloud.on_all(check).await;
        let mut failures = Vec::new();
        for (host, outcome) in cloud.hosts.iter().zip(checks) {
            match outcome {
                Err(error) if error.kind() == ErrorKind::Unreachable => {
                    tracing::warn!(host = host.config.uri, %error, "a host cannot be reached");
                    failures.push(error);
                }
                other => other?,
            }
        }
        if failures.len() == cloud.hosts.len() {
            return Err(failures.swap_remove(0));
        }
        Ok(cloud)
    }

    /// Runs work on every host at once.
    async fn on_all<T: Send + 'static>(
        &self,
        work: impl Fn(&LibvirtConfig, &Host, &Opened) -> Result<T> + Clone + Send + 'static,
    ) -> Vec<Result<T>> {
        let each = self.hosts.iter().map(|host| {
            let (config, there, work) = (Arc::clone(&self.config), Arc::clone(host), work.clone());
            host.run(Lane::Host, move |opened| work(&config, &there, opened))
        });
        join_all(each).await
    }

    /// The host that an instance is on.
    fn host_of(&self, instance: &CloudInstance) -> Result<(Arc<Host>, Uuid)> {
        let unknown = || {
            let message = "the instance is on a host that is not configured";
            Error::new(ErrorKind::NotFound, message).with_context("id", &instance.native_id)
        };
        let (uuid, uri) = list::split(&instance.native_id).ok_or_else(unknown)?;
        Ok((self.host(uri).ok_or_else(unknown)?, uuid))
    }

    fn host(&self, uri: &str) -> Option<Arc<Host>> {
        self.hosts
            .iter()
            .find(|host| host.config.uri == uri)
            .cloned()
    }

    /// Where the instance of a name is. A host that cannot be reached counts only when it was
    /// seen there.
    async fn search(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        let wanted = name.clone();
        let answers = self.on_all(move |_, host, opened| list::get(host, opened, &wanted));
        let (mut newest, mut silent): (Option<CloudInstance>, _) = (None, None);
        for (host, answer) in self.hosts.iter().zip(answers.await) {
            match answer {
                Ok(found) => newest = newest.into_iter().chain(found).max_by_key(|i| i.created_at),
                Err(error) if error.kind() == ErrorKind::Unreachable => {
                    let seen = host.memory().seen.iter().any(|seen| seen.name == *name);
                    silent = silent.or(seen.then_some(error));
                }
                Err(error) => return Err(error),
            }
        }
        match (newest, silent) {
            (None, Some(error)) => Err(error),
            (newest, _) => Ok(newest),
        }
    }

    /// What every host has room for, where it says so in time.
    async fn capacities(&self) -> Vec<(Arc<Host>, Result<Capacity>)> {
        let each = self.hosts.iter().map(|host| async move {
            let (there, overcommit) = (Arc::clone(host), self.config.cpu_overcommit);
            let ask = host.run(Lane::Host, move |opened| {
                list::capacity(&there, opened, overcommit)
            });
            let late = |_| {
                let message = "the host did not say in time what it has room for";
                Err(Error::new(ErrorKind::TimedOut, message))
            };
            let answer = tokio::time::timeout(PLACEMENT, ask).await;
            (Arc::clone(host), answer.unwrap_or_else(late))
        });
        join_all(each).await
    }

    /// The hosts with room, the best first. The launch counts on the best from now on.
    async fn place(&self, attempt: &Attempt) -> Result<(UnderWay, Vec<Arc<Host>>)> {
        let need = self.need();
        let _turn = self.placing.lock().await;
        let mut silent = None;
        let mut reached = Vec::new();
        for (host, answer) in self.capacities().await {
            match answer {
                Ok(capacity) => reached.push((host, capacity)),
                Err(error) => {
                    tracing::warn!(host = host.config.uri, %error, "a host takes no launch");
                    silent = silent.or(Some(error));
                }
            }
        }
        let capacities: Vec<Capacity> = reached.iter().map(|(_, capacity)| *capacity).collect();
        let order = place::order(&capacities, need);
        let hosts: Vec<Arc<Host>> = order
            .into_iter()
            .map(|index| Arc::clone(&reached[index].0))
            .collect();
        match (hosts.first(), silent) {
            (Some(best), _) => Ok((UnderWay::new(best, attempt.clone(), need), hosts)),
            (None, Some(error)) if reached.is_empty() => Err(error),
            (None, _) => place::no_room(need, reached.len()),
        }
    }

    fn need(&self) -> Need {
        Need {
            memory_mib: self.config.memory_mib,
            vcpus: self.config.vcpus,
        }
    }

    /// Launches on one of the hosts, the first that can.
    async fn launch_on(&self, hosts: &[Arc<Host>], launch: Arc<Launch>) -> Result<CloudInstance> {
        let mut first = None;
        for host in hosts {
            let _under_way = UnderWay::new(host, launch.attempt(), self.need());
            let (there, launch) = (Arc::clone(host), Arc::clone(&launch));
            let outcome = host
                .run(Lane::Host, move |opened| launch.run(&there, opened))
                .await;
            match outcome {
                Err(error) if is_of_the_host(&error) => {
                    tracing::warn!(host = host.config.uri, %error, "a host did not launch a runner");
                    first = first.or(Some(error));
                }
                other => return other,
            }
        }
        match first {
            Some(error) => Err(error),
            None => place::no_room(self.need(), 0),
        }
    }
}

/// Whether another host may do what this one did not, and nothing is left on this one.
fn is_of_the_host(error: &Error) -> bool {
    let kind = matches!(
        error.kind(),
        ErrorKind::NoCapacity
            | ErrorKind::Unreachable
            | ErrorKind::NotFound
            | ErrorKind::Unsupported
            | ErrorKind::PermissionDenied
    );
    kind && error.effect() == Effect::None
}

/// Checks what a host holds.
fn check(config: &LibvirtConfig, host: &Host, opened: &Opened) -> Result<()> {
    let connection = &opened.session.connection;
    Pool::open(connection, config)?.folder()?;
    pool::image(connection, config)?;
    let machine = config.boot.machine.uname();
    let kvm = opened.facts.has_kvm(machine);
    match config.accelerator {
        Accelerator::Kvm if !kvm => Err(launch::no_kvm()),
        Accelerator::Auto if !kvm => {
            tracing::warn!(
                host = host.config.uri,
                machine,
                "no KVM here: QEMU translates every instruction, and guests are slower by a \
                 factor of ten to thirty"
            );
            Ok(())
        }
        Accelerator::Auto | Accelerator::Kvm | Accelerator::Tcg => Ok(()),
    }
}

/// What was seen on a host that does not answer: nobody knows how it is now.
fn out_of_sight(host: &Host) -> Vec<CloudInstance> {
    let mut seen = host.memory().seen.clone();
    for instance in &mut seen {
        instance.state = CloudRunnerState::Unexpected("host does not answer".into());
    }
    seen
}

#[async_trait]
impl Cloud for LibvirtCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        let boot = &self.config.boot;
        let user_data = Bootstrap::new(spec, boot)?.user_data(Some(MAX_USER_DATA))?;
        if let Some(instance) = self.search(&spec.name).await? {
            return Ok(instance);
        }
        let uuid = Uuid::new_v4();
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = OnDrop(Arc::clone(&cancelled));
        let launch = Arc::new(Launch {
            config: Arc::clone(&self.config),
            machine: boot.machine,
            name: spec.name.clone(),
            uuid,
            seed: seed::image(&spec.name, uuid, &user_data)?,
            cancelled,
        });
        let (_under_way, hosts) = self.place(&launch.attempt()).await?;
        self.launch_on(&hosts, launch).await
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        self.search(name).await
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        let wanted = prefix.clone();
        let answers = self.on_all(move |_, host, opened| list::list(host, opened, &wanted));
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for (host, answer) in self.hosts.iter().zip(answers.await) {
            match answer {
                Ok(instances) => found.extend(instances),
                Err(error) => {
                    tracing::warn!(host = host.config.uri, %error, "a host was not listed");
                    found.extend(out_of_sight(host));
                    failed.push(error);
                }
            }
        }
        if failed.len() == self.hosts.len() {
            return Err(failed.swap_remove(0));
        }
        Ok(found)
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        let (host, uuid) = self.host_of(instance)?;
        let (there, config) = (Arc::clone(&host), Arc::clone(&self.config));
        let name = instance.name.clone();
        host.run(Lane::Host, move |opened| {
            let connection = &opened.session.connection;
            if list::destroy(&there, connection, uuid, &name)? {
                let uefi = config.firmware == Firmware::Uefi;
                let attempt = Attempt::of(&name, uuid);
                Pool::open(connection, &config)?.remove_all(&attempt, uefi)?;
            }
            there.memory().seen.retain(|seen| seen.name != name);
            Ok(())
        })
        .await
    }

    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        let wanted = prefix.clone();
        let answers =
            self.on_all(move |config, host, opened| pool::leftovers(host, opened, config, &wanted));
        let (mut found, mut failed) = (Vec::new(), Vec::new());
        for answer in answers.await {
            match answer {
                Ok(leftovers) => found.extend(leftovers),
                Err(error) => failed.push(error),
            }
        }
        if failed.len() == self.hosts.len() {
            return Err(failed.swap_remove(0));
        }
        Ok(found)
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        let split = leftover.id.split_once('@');
        let found = split.and_then(|(volume, uri)| Some((volume.to_owned(), self.host(uri)?)));
        let Some((volume, host)) = found else {
            let message = "the leftover is on a host that is not configured";
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let config = Arc::clone(&self.config);
        host.run(Lane::Host, move |opened| {
            Pool::open(&opened.session.connection, &config)?.remove(&volume)
        })
        .await
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        let (host, domain) = self.host_of(instance)?;
        let exchange = self.config.boot.exchange_folder();
        let agent = Agent { host, domain };
        Ok(Box::new(ExecGuest::new(
            agent,
            exchange,
            self.guest_timeout,
        )))
    }

    async fn console(&self, instance: &CloudInstance) -> Result<Option<String>> {
        let (host, uuid) = self.host_of(instance)?;
        let config = Arc::clone(&self.config);
        let attempt = Attempt::of(&instance.name, uuid);
        host.run(Lane::Host, move |opened| {
            Pool::open(&opened.session.connection, &config)?.console(&attempt)
        })
        .await
    }

    async fn changed(&self) {
        self.events.notified().await;
    }
}
