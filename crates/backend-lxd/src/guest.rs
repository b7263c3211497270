//! The way into an instance.

use runner_manager_core::{CloudInstance, CloudRunnerState, Error, ErrorKind, ExecGuest, Result};

use crate::cloud::LxdCloud;
use crate::exec::InstanceExec;

/// Commands on an instance that runs.
pub(crate) fn open(cloud: &LxdCloud, instance: &CloudInstance) -> Result<ExecGuest<InstanceExec>> {
    if instance.state != CloudRunnerState::Active {
        let message = "the instance does not run, and nothing can run on it";
        return Err(Error::new(ErrorKind::Unreachable, message));
    }
    let exec = InstanceExec {
        client: cloud.client.clone(),
        kind: cloud.server.kind,
        instance: instance.name.to_string(),
    };
    let exchange = cloud.config.boot.exchange_folder();
    Ok(ExecGuest::new(exec, exchange, cloud.guest_timeout))
}
