//! The way into instances: SSH, Systems Manager, or none.

mod ssh;
mod ssm;

use std::time::Duration;

use runner_manager_core::{
    CloudInstance, Error, ErrorKind, ExecGuest, ExtraPart, Guest, Result, RunnerName, Support,
};

use crate::api::Api;
use crate::config::Ec2Config;

/// How the guests of a pool are reached.
#[derive(Debug)]
pub(crate) enum Guests {
    /// Not at all.
    None,
    /// Over SSH.
    Ssh(ssh::Way),
    /// Through Systems Manager.
    Ssm(ssm::Way),
}

/// What nobody can ask.
const NO_WAY: &str = "the pool has neither `ssh` nor `ssm`";

impl Guests {
    /// Prepares the way that the section asks for.
    pub(crate) async fn open(config: &Ec2Config, api: &Api) -> Result<Self> {
        if let Some(section) = &config.ssh {
            return Ok(Self::Ssh(ssh::Way::open(section).await?));
        }
        let ssm = config.ssm.as_ref().map(|section| ssm::Way {
            api: api.clone(),
            poll: Duration::from_millis(section.poll_milliseconds.max(100)),
        });
        Ok(ssm.map_or(Self::None, Self::Ssm))
    }

    /// What the capability says.
    pub(crate) fn support(&self) -> Support {
        match self {
            Self::None => Support::Unsupported(NO_WAY),
            Self::Ssh(_) | Self::Ssm(_) => Support::Native,
        }
    }

    /// Opens the way into an instance.
    pub(crate) async fn guest(
        &self,
        instance: &CloudInstance,
        exchange: &str,
        timeout: Duration,
    ) -> Result<Box<dyn Guest>> {
        match self {
            Self::None => Err(Error::new(ErrorKind::Unsupported, NO_WAY)),
            Self::Ssh(way) => {
                let exec = way.exec(instance).await?;
                Ok(Box::new(ExecGuest::new(exec, exchange, timeout)))
            }
            Self::Ssm(way) => {
                let exec = way.exec(&instance.native_id);
                Ok(Box::new(ExecGuest::new(exec, exchange, timeout)))
            }
        }
    }

    /// Forgets a runner that is gone: its connection and its keys.
    pub(crate) async fn forget(&self, instance: &CloudInstance) -> Result<()> {
        match self {
            Self::Ssh(way) => way.forget(instance).await,
            Self::None | Self::Ssm(_) => Ok(()),
        }
    }
}

impl Guests {
    /// Whether a launch of this name was prepared before.
    pub(crate) async fn knows(&self, name: &RunnerName) -> Result<bool> {
        match self {
            Self::Ssh(way) => way.has_keys(name).await,
            Self::None | Self::Ssm(_) => Ok(false),
        }
    }

    /// Forgets a runner that never had an instance.
    pub(crate) async fn forget_name(&self, name: &RunnerName) -> Result<()> {
        match self {
            Self::Ssh(way) => way.remove_keys(name).await,
            Self::None | Self::Ssm(_) => Ok(()),
        }
    }
}

/// What an instance's user-data needs, so that it lets the manager in.
pub(crate) async fn parts(guests: &Guests, name: &RunnerName) -> Result<Vec<ExtraPart>> {
    match guests {
        Guests::Ssh(way) => Ok(vec![way.part(name).await?]),
        Guests::None | Guests::Ssm(_) => Ok(Vec::new()),
    }
}

/// A command line for a shell: each word quoted by a library.
fn command_line(argv: &[String]) -> Result<String> {
    shlex::try_join(argv.iter().map(String::as_str)).map_err(|error| {
        Error::new(ErrorKind::InvalidRequest, "a command holds a NUL byte").with_source(error)
    })
}
