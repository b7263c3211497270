//! The backend's [`Cloud`].

use std::collections::HashSet;

use async_trait::async_trait;
use runner_manager_core::{
    BackendContext, Capability, Cloud, CloudInstance, Error, Guest, LaunchSpec, Leftover,
    NamePrefix, Result, RunnerName, Support, Timings,
};

use crate::api::Api;
use crate::candidates::{self, Candidate, Droughts};
use crate::config::Ec2Config;
use crate::guest::Guests;
use crate::image::Images;
use crate::instances::Instances;
use crate::templates::Templates;
use crate::{check, client, console, launch, leftovers};

/// Runners as EC2 instances.
pub struct Ec2Cloud {
    pub(crate) config: Ec2Config,
    pub(crate) api: Api,
    pub(crate) instances: Instances,
    pub(crate) images: Images,
    pub(crate) templates: Templates,
    pub(crate) guests: Guests,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) droughts: Droughts,
    prefix: NamePrefix,
    timings: Timings,
    capability: Capability,
}

impl Ec2Cloud {
    /// Checks the section, the credentials, and that a launch would be allowed.
    ///
    /// # Errors
    /// [`runner_manager_core::ErrorKind::InvalidConfig`] with the key, or what EC2 says.
    pub async fn connect(config: Ec2Config, context: &BackendContext) -> Result<Self> {
        config.validate()?;
        let api = client::connect(&config, &context.budgets).await?;
        let guests = Guests::open(&config, &api).await?;
        let cloud = Self {
            instances: Instances::new(api.clone(), context.prefix.clone()),
            images: Images::new(config.image.clone()),
            templates: Templates::new(context.prefix.clone(), config.clone()),
            candidates: candidates::all(&config),
            droughts: Droughts::default(),
            prefix: context.prefix.clone(),
            timings: context.timings.clone(),
            capability: capability(&guests),
            guests,
            api,
            config,
        };
        check::check(&cloud).await?;
        Ok(cloud)
    }

    pub(crate) fn prefix(&self) -> &NamePrefix {
        &self.prefix
    }
}

fn capability(guests: &Guests) -> Capability {
    Capability {
        jit_config: Support::Native,
        registration_token: Support::Native,
        claim: Support::Native,
        guest: guests.support(),
        cloud_init: Support::Native,
        idle_stop: guests.support(),
        shell: guests.support(),
        console: Support::Native,
        resource_limits: Support::Unsupported("an instance is as large as its type"),
        support_services: Support::Native,
        outlives_manager: Support::Native,
        max_instances: None,
        max_user_data_bytes: Some(launch::USER_DATA),
    }
}

/// The kind of leftover that is on this machine.
const KEYS: &str = "SSH keys";

#[async_trait]
impl Cloud for Ec2Cloud {
    fn capability(&self) -> &Capability {
        &self.capability
    }

    async fn launch(&self, spec: &LaunchSpec) -> Result<CloudInstance> {
        launch::launch(self, spec).await
    }

    async fn get(&self, name: &RunnerName) -> Result<Option<CloudInstance>> {
        self.instances.get(name).await
    }

    async fn list(&self, _: &NamePrefix) -> Result<Vec<CloudInstance>> {
        self.instances.list().await
    }

    async fn terminate(&self, instance: &CloudInstance) -> Result<()> {
        self.instances.end(&instance.native_id).await?;
        if self.instances.knows(&instance.name) {
            // A twin lives, and the keys are those of the name.
            return Ok(());
        }
        // What cannot be removed here is a leftover.
        if let Err(error) = self.guests.forget(instance).await {
            tracing::warn!(runner = %instance.name, %error, "the runner's SSH keys stay");
        }
        Ok(())
    }

    async fn leftovers(&self, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
        // In this order: what is launched after the look for leftovers is not among them.
        let mut left = leftovers::find(&self.api, prefix).await?;
        if let Guests::Ssh(way) = &self.guests {
            let keys = way.names(prefix).await?.into_iter().map(|name| Leftover {
                kind: KEYS,
                id: name.to_string(),
                name,
                created_at: None,
            });
            left.extend(keys);
        }
        if !left.is_empty() {
            let alive = self.instances.list().await?;
            let alive: HashSet<RunnerName> = alive.into_iter().map(|i| i.name).collect();
            left.retain(|leftover| !alive.contains(&leftover.name));
        }
        Ok(left)
    }

    async fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        match (&self.guests, leftover.kind) {
            (Guests::Ssh(way), KEYS) => way.remove_keys(&leftover.name).await,
            _ => leftovers::remove(&self.api, leftover).await,
        }
    }

    async fn guest(&self, instance: &CloudInstance) -> Result<Box<dyn Guest>> {
        let exchange = self.config.boot.exchange_folder();
        let timeout = self.timings.guest_timeout;
        self.guests.guest(instance, &exchange, timeout).await
    }

    async fn console(&self, instance: &CloudInstance) -> Result<Option<String>> {
        console::tail(&self.api, &instance.native_id)
            .await
            .map_err(|error: Error| error.with_context("instance", &instance.native_id))
    }
}
