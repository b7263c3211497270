//! The backend's [`Cloud`].

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_core::{
    BackendContext, Capability, Cloud, CloudInstance, Guest, LaunchSpec, Leftover, NamePrefix,
    Result, RunnerName, Support,
};

use crate::api::{state, was_started};
use crate::client::{Client, absent_is_none};
use crate::config::LxdConfig;
use crate::request::is_marked;
use crate::server::Server;
use crate::wire::Instance;
use crate::{connect, guest, launch, remove, volumes};

/// How much of a console's end is shown.
const CONSOLE_BYTES: usize = 64 * 1024;

/// Runners as instances of LXD or Incus.
///
/// A call that is dropped may still take effect on the server: what it then makes carries this
/// manager's marks, so that the next list shows it.
#[derive(Debug, Clone)]
pub struct LxdCloud {
    pub(crate) client: Client,
    pub(crate) server: Server,
    pub(crate) config: LxdConfig,
    pub(crate) capability: Capability,
    /// The storage pool of root disks.
    pub(crate) root_pool: String,
    /// Whether the server manages the network of the configuration.
    pub(crate) managed_network: bool,
    pub(crate) launch_timeout: Duration,
    pub(crate) guest_timeout: Duration,
}

impl LxdCloud {
    /// Checks the configuration against the server, and changes nothing there.
    ///
    /// # Errors
    /// [`InvalidConfig`](runner_manager_core::ErrorKind::InvalidConfig) with the key,
    /// [`Unsupported`](runner_manager_core::ErrorKind::Unsupported) for what this server cannot
    /// host, or what is wrong with the connection.
    pub async fn connect(config: LxdConfig, context: &BackendContext) -> Result<Self> {
        connect::connect(config, context).await
    }
}

/// An instance as the contract shows it.
pub(crate) fn show(name: &RunnerName, instance: &Instance) -> CloudInstance {
    let uuid = instance.config.get("volatile.uuid");
    CloudInstance {
        name: name.clone(),
        native_id: uuid.unwrap_or(&instance.name).clone(),
        state: state(&instance.status, was_started(instance)),
        created_at: instance.created_at,
        addresses: addresses(instance),
    }
}

fn addresses(instance: &Instance) -> Vec<IpAddr> {
    let state = instance.state.iter();
    let interfaces = state.flat_map(|state| state.network.iter().flat_map(|n| n.values()));
    let addresses = interfaces.flat_map(|interface| &interface.addresses);
    let global = addresses.filter(|address| address.scope == "global");
    global.map(|address| address.address).collect()
}

#[async_trait]
impl Cloud for LxdCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        launch::launch(self, spec).await
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        let found = remove::find(self, name).await?;
        Ok(found.map(|instance| show(name, &instance)))
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        // One call, with states and addresses.
        let query = [("recursion", "2")];
        let all: Vec<Instance> = self.client.get(&["instances"], &query).await?;
        let ours = all.iter().filter_map(|instance| {
            let name = prefix.owned(&instance.name)?;
            is_marked(&instance.config, &name).then(|| show(&name, instance))
        });
        Ok(ours.collect())
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        remove::terminate(self, &instance.name, &instance.state).await
    }

    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        volumes::leftovers(self, prefix).await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        volumes::remove_leftover(self, leftover).await
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        Ok(Box::new(guest::open(self, instance)?))
    }

    async fn console(&self, instance: &CloudInstance) -> Result<Option<String>> {
        if self.capability.console != Support::Native {
            return Ok(None);
        }
        let path = ["instances", &instance.name.to_string(), "console"];
        absent_is_none(self.client.tail(&path, CONSOLE_BYTES).await)
    }
}
