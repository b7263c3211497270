//! The backend's [`Cloud`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use runner_manager_core::{
    BackendContext, BudgetLimits, Capability, Cloud, CloudInstance, Error, ErrorKind, ExecGuest,
    Guest, LaunchSpec, Leftover, NamePrefix, Result, RunnerName, Support,
};
use runner_manager_guest_ssh::{KeyFolder, SshExec, SshPool, Target};

use crate::config::OpenstackConfig;
use crate::guest::{Installed, OsGuest};
use crate::lookup::{self, Flavor};
use crate::session::Api;
use crate::{clouds, consoles, launch, network, remove, servers};

/// How long logging in, finding things and each first request may take.
const CONNECT: Duration = Duration::from_secs(60);

/// Everything that one pool's calls share.
pub(crate) struct Os {
    pub(crate) api: Api,
    pub(crate) config: OpenstackConfig,
    pub(crate) image: String,
    pub(crate) flavor: Flavor,
    pub(crate) network: String,
    pub(crate) floating_network: Option<String>,
    pub(crate) group: String,
    pub(crate) keys: KeyFolder,
    pub(crate) ssh: Arc<SshPool>,
    pub(crate) call_timeout: Duration,
    /// Within which a launch ends by itself, so that it can tidy up before it is cut off.
    pub(crate) launch_limit: Duration,
    guest_timeout: Duration,
    installed: Installed,
}

/// Runners as servers of an OpenStack cloud.
pub struct OpenstackCloud {
    os: Os,
    capability: Capability,
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => {
            Err(Error::new(ErrorKind::Unexpected, "a worker thread failed").with_source(error))
        }
    }
}

impl OpenstackCloud {
    /// Checks the configuration, logs in, finds image, flavor and network, and sees to the
    /// security group.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`] with the key; [`ErrorKind::Unauthenticated`],
    /// [`ErrorKind::Unreachable`] and others of the cloud.
    pub async fn connect(context: &BackendContext, config: OpenstackConfig) -> Result<Self> {
        config.validate()?;
        let (cloud, file) = (config.cloud.clone(), config.clouds_file.clone());
        let state_dir = config.state_dir.clone();
        let (credentials, keys) = blocking(move || {
            let variable = |name: &str| std::env::var(name).ok();
            let credentials = clouds::find(cloud.as_deref(), file.as_deref(), &variable)?;
            Ok((credentials, KeyFolder::open(state_dir.join("keys"))?))
        })
        .await?;
        let ssh = config.ssh.clone();
        let ssh = blocking(move || SshPool::new(ssh))
            .await
            .map_err(|e| e.with_context("section", "ssh"))?;
        let limits = BudgetLimits {
            rate: config.requests_per_second,
            ..BudgetLimits::default()
        };
        let budget = context.budgets.of(&credentials.account, limits);
        let timings = &context.timings;
        let api = Api::connect(credentials, budget, CONNECT).await?;
        let found = find(&api, &config);
        let (image, flavor, network, floating_network) =
            match tokio::time::timeout(CONNECT, found).await {
                Ok(found) => found?,
                Err(_) => {
                    let text = "the cloud gave no answer before the deadline";
                    return Err(Error::new(ErrorKind::TimedOut, text));
                }
            };
        let group = network::ensure_group(&api, &config.security_group).await?;
        let os = Os {
            api: api.with_timeout(timings.call_timeout),
            image,
            flavor,
            network,
            floating_network,
            group,
            keys,
            ssh: Arc::new(ssh),
            call_timeout: timings.call_timeout,
            launch_limit: timings.launch_timeout * 4 / 5,
            guest_timeout: timings.guest_timeout,
            installed: Installed::default(),
            config,
        };
        Ok(Self {
            os,
            capability: capability(),
        })
    }
}

/// Image, flavor, network and external network.
async fn find(
    api: &Api,
    config: &OpenstackConfig,
) -> Result<(String, Flavor, String, Option<String>)> {
    let cloud = openstack::Cloud::from((*api.session().await).clone());
    let outside = async {
        match &config.floating_network {
            Some(wanted) => lookup::network(&cloud, "floating_network", wanted)
                .await
                .map(Some),
            None => Ok(None),
        }
    };
    futures::try_join!(
        lookup::image(&cloud, &config.image),
        lookup::flavor(&cloud, &config.flavor),
        lookup::network(&cloud, "network", &config.network),
        outside,
    )
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
        max_user_data_bytes: Some(launch::MAX_USER_DATA),
    }
}

impl Os {
    /// Keeps the console of a server on which no installed runner was ever seen. What goes wrong
    /// with that is logged, and stops nothing.
    pub(crate) async fn keep_console(&self, instance: &CloudInstance) {
        if self.installed.take(&instance.native_id) || self.config.failed_consoles == 0 {
            return;
        }
        let name = &instance.name;
        let kept = async {
            let Some(text) = servers::console(&self.api, &instance.native_id).await? else {
                return Ok(None);
            };
            let folder = self.config.state_dir.join("consoles");
            let (name, most) = (name.clone(), self.config.failed_consoles);
            blocking(move || consoles::keep(&folder, &name, &text, most))
                .await
                .map(Some)
        };
        match kept.await {
            Ok(Some(path)) => {
                let path = path.display();
                tracing::warn!(runner = %name, console = %path, "the boot did not come to its end");
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(runner = %name, %error, "cannot keep the console"),
        }
    }
}

#[async_trait]
impl Cloud for OpenstackCloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        launch::launch(&self.os, spec).await
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        let newest = servers::newest(&self.os.api, name).await?;
        Ok(newest.and_then(|server| server.owned(name.prefix())))
    }

    async fn list(&self, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
        servers::list(&self.os.api, prefix).await
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        remove::terminate(&self.os, instance).await
    }

    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        remove::leftovers(&self.os, prefix).await
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        remove::leftover(&self.os, leftover).await
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        let (folder, name) = (self.os.keys.clone(), instance.name.clone());
        let keys = blocking(move || folder.load(&name)).await?.ok_or_else(|| {
            let text = "the state folder does not hold the key of this runner";
            Error::new(ErrorKind::Local, text)
                .with_context("folder", self.os.config.state_dir.display())
        })?;
        let no_address = || Error::new(ErrorKind::Unreachable, "the server has no address");
        let target = Target {
            id: instance.native_id.clone(),
            address: *instance.addresses.first().ok_or_else(no_address)?,
            keys: Arc::new(keys),
        };
        let exec = SshExec::new(Arc::clone(&self.os.ssh), target);
        let exchange = self.os.config.boot.exchange_folder();
        Ok(Box::new(OsGuest {
            inner: ExecGuest::new(exec, exchange, self.os.guest_timeout),
            id: instance.native_id.clone(),
            installed: self.os.installed.clone(),
        }))
    }

    async fn console(&self, instance: &CloudInstance) -> Result<Option<String>> {
        servers::console(&self.os.api, &instance.native_id).await
    }
}
