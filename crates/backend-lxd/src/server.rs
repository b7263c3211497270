//! The server: its kind, its extensions, and what it can do.

use runner_manager_core::{Capability, Error, ErrorKind, Result, Support};

use crate::client::Client;
use crate::config::InstanceType;
use crate::wire;

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Lxd,
    Incus,
}

impl Kind {
    /// The key that lets an instance see the server's socket for guests.
    pub(crate) fn guest_api(self) -> &'static str {
        match self {
            Self::Lxd => "security.devlxd",
            Self::Incus => "security.guestapi",
        }
    }
}

/// What the backend cannot do without: LXD 5.0 and every Incus have them.
const REQUIRED: [&str; 4] = [
    "projects",
    "instances",
    "instance_get_full",
    "container_exec_signal_handling",
];

/// The most bytes of user-data. The server has no limit of its own for a key; this keeps its
/// database small.
pub(crate) const MAX_USER_DATA: u32 = 1024 * 1024;

/// What is known of the server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    pub(crate) clustered: bool,
    /// The drivers that work.
    drivers: Vec<String>,
    extensions: Vec<String>,
}

impl Server {
    pub(crate) async fn ask(client: &Client) -> Result<Self> {
        let answer: wire::Server = client.get(&[], &[]).await?;
        Self::read(answer).map_err(|e| e.with_context("server", client.endpoint().address()))
    }

    fn read(answer: wire::Server) -> Result<Self> {
        if answer.auth != "trusted" {
            let message = "the server does not trust this client; let its user use the socket, or \
                           add the client's certificate to the server's trust store";
            return Err(Error::new(ErrorKind::Unauthenticated, message));
        }
        let kind = match answer.environment.server.as_str() {
            "lxd" => Kind::Lxd,
            "incus" => Kind::Incus,
            other => {
                let message = "the server is neither LXD nor Incus";
                return Err(Error::new(ErrorKind::Unsupported, message).with_context("kind", other));
            }
        };
        let drivers = answer.environment.driver.split('|');
        let server = Self {
            kind,
            version: answer.environment.server_version,
            clustered: answer.environment.server_clustered,
            drivers: drivers.map(|word| word.trim().to_owned()).collect(),
            extensions: answer.api_extensions,
        };
        match REQUIRED.iter().find(|name| !server.has(name)) {
            Some(missing) => Err(Error::new(
                ErrorKind::Unsupported,
                "the server is too old; it needs LXD 5.0 or later, or Incus",
            )
            .with_context("version", &server.version)
            .with_context("missing extension", missing)),
            None => Ok(server),
        }
    }

    /// Whether the server has an extension of the API.
    pub(crate) fn has(&self, extension: &str) -> bool {
        self.extensions.iter().any(|known| known == extension)
    }

    /// Refuses what the server cannot host, with the reason that it gives.
    pub(crate) async fn check_type(&self, client: &Client, wanted: InstanceType) -> Result<()> {
        let driver = match wanted {
            InstanceType::Container => "lxc",
            InstanceType::VirtualMachine => "qemu",
        };
        if self.drivers.iter().any(|known| known == driver) {
            return Ok(());
        }
        // The reason is a courtesy.
        let asked = client.get(&["warnings"], &[("recursion", "1")]);
        let warnings: Vec<wire::Warning> = asked.await.unwrap_or_default();
        let mut reasons = warnings
            .into_iter()
            .filter(|warning| warning.kind == "Instance type not operational");
        let reason = reasons.next().map_or_else(
            || format!("its driver `{driver}` is not there or does not work"),
            |warning| warning.last_message,
        );
        let message = format!("the server hosts no {}s: {reason}", wanted.as_str());
        Err(Error::new(ErrorKind::Unsupported, message)
            .with_context("key", "instance_type")
            .with_context("server", client.endpoint().address()))
    }

    pub(crate) fn capability(&self, kind: InstanceType, max_instances: Option<u32>) -> Capability {
        let console = match kind {
            InstanceType::Container if self.has("console") => Support::Native,
            InstanceType::Container => Support::Unsupported("the server keeps no console"),
            InstanceType::VirtualMachine => {
                Support::Unsupported("the server keeps no console text of virtual machines")
            }
        };
        Capability {
            jit_config: Support::Native,
            registration_token: Support::Native,
            claim: Support::Native,
            guest: Support::Native,
            idle_stop: Support::Native,
            shell: Support::Native,
            cloud_init: Support::Native,
            console,
            resource_limits: Support::Native,
            support_services: Support::Native,
            outlives_manager: Support::Native,
            max_instances,
            max_user_data_bytes: Some(MAX_USER_DATA),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(server: &str, driver: &str, auth: &str) -> wire::Server {
        let environment = json!({"server": server, "server_version": "5.0.2", "driver": driver});
        let answer = json!({"auth": auth, "api_extensions": REQUIRED, "environment": environment});
        serde_json::from_value(answer).expect("valid")
    }

    #[test]
    fn both_kinds_are_known_and_others_refused() {
        let lxd = Server::read(answer("lxd", "lxc", "trusted")).expect("LXD");
        assert_eq!((lxd.kind, lxd.clustered), (Kind::Lxd, false));
        let incus = Server::read(answer("incus", "lxc | qemu", "trusted")).expect("Incus");
        assert_eq!(incus.kind, Kind::Incus);
        assert_eq!(incus.drivers, ["lxc", "qemu"]);
        let other = Server::read(answer("docker", "", "trusted")).expect_err("unknown");
        assert_eq!(other.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_stranger_and_an_old_server_are_told_what_to_do() {
        let stranger = Server::read(answer("", "", "untrusted")).expect_err("untrusted");
        assert_eq!(stranger.kind(), ErrorKind::Unauthenticated);
        let mut old = answer("lxd", "lxc", "trusted");
        old.api_extensions.clear();
        let old = Server::read(old).expect_err("old");
        assert_eq!(old.context("missing extension"), Some("projects"));
    }
}
