//! How a pool's instances are reached over SSH.

use std::path::PathBuf;
use std::time::Duration;

use runner_manager_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;

/// How a pool's instances are reached over SSH.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshConfig {
    /// The user to log in as: the one that the image gives its key pair to. Default: `ubuntu`.
    #[serde(default = "user")]
    pub user: String,
    /// The TCP port. Default: 22.
    #[serde(default = "port")]
    pub port: u16,
    /// How long connecting may take, log-in included, in seconds. Default: 10.
    #[serde(default = "connect_seconds")]
    pub connect_seconds: u64,
    /// After how many idle seconds a connection is closed. Default: 120.
    #[serde(default = "idle_seconds")]
    pub idle_seconds: u64,
    /// How many commands run at once. Default: 64.
    #[serde(default = "concurrency")]
    pub concurrency: usize,
    /// How many connections are kept open; the least recently used goes first. Default: 512.
    #[serde(default = "max_connections")]
    pub max_connections: usize,
    /// A host to go through. Give this or `proxy_command`.
    pub jump: Option<JumpHost>,
    /// A program, with its arguments, whose standard input and output are the connection. `%h`
    /// and `%p` in an argument stand for address and port. No shell reads it.
    #[serde(default)]
    pub proxy_command: Vec<String>,
}

impl Default for SshConfig {
    fn default() -> Self {
        Self {
            user: user(),
            port: port(),
            connect_seconds: connect_seconds(),
            idle_seconds: idle_seconds(),
            concurrency: concurrency(),
            max_connections: max_connections(),
            jump: None,
            proxy_command: Vec::new(),
        }
    }
}

/// A host through which the instances are reached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JumpHost {
    /// Its name or address.
    pub host: String,
    /// Its TCP port. Default: 22.
    #[serde(default = "port")]
    pub port: u16,
    /// The user to log in as.
    pub user: String,
    /// The file of the private key to log in with, in OpenSSH's format, without a passphrase.
    pub key_file: PathBuf,
    /// Its public host key, as in `known_hosts`: `ssh-ed25519 AAAA…` (or ECDSA).
    pub host_key: String,
}

fn user() -> String {
    "ubuntu".into()
}

fn port() -> u16 {
    22
}

fn connect_seconds() -> u64 {
    10
}

fn idle_seconds() -> u64 {
    120
}

fn concurrency() -> usize {
    64
}

fn max_connections() -> usize {
    512
}

impl SshConfig {
    /// Checks what serde cannot.
    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = |key, message: &str| {
            Err(Error::new(ErrorKind::InvalidConfig, message).with_context("key", key))
        };
        if self.user.is_empty() {
            return wrong("user", "is empty; give the user of the image");
        }
        if self.port == 0 {
            return wrong("port", "is 0; give a TCP port");
        }
        for (key, value) in [
            ("connect_seconds", self.connect_seconds),
            ("idle_seconds", self.idle_seconds),
        ] {
            if !(1..=3600).contains(&value) {
                return wrong(key, "is not between 1 and 3600 seconds");
            }
        }
        for (key, value) in [
            ("concurrency", self.concurrency),
            ("max_connections", self.max_connections),
        ] {
            if !(1..=65_536).contains(&value) {
                return wrong(key, "is not between 1 and 65536");
            }
        }
        if self.jump.is_some() && !self.proxy_command.is_empty() {
            let message = "is set together with `jump`; keep one of the two";
            return wrong("proxy_command", message);
        }
        Ok(())
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_secs(self.connect_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_its_key() {
        assert!(SshConfig::default().validate().is_ok());
        let key = |change: fn(&mut SshConfig)| {
            let mut config = SshConfig::default();
            change(&mut config);
            let error = config.validate().unwrap_err();
            error.context("key").unwrap().to_owned()
        };
        assert_eq!(key(|c| c.user.clear()), "user");
        assert_eq!(key(|c| c.port = 0), "port");
        assert_eq!(key(|c| c.connect_seconds = 0), "connect_seconds");
        assert_eq!(key(|c| c.idle_seconds = 9999), "idle_seconds");
        assert_eq!(key(|c| c.concurrency = 0), "concurrency");
        let both = |c: &mut SshConfig| {
            c.proxy_command = vec!["nc".into()];
            c.jump = Some(JumpHost {
                host: "h".into(),
                port: 22,
                user: "u".into(),
                key_file: "/k".into(),
                host_key: String::new(),
            });
        };
        assert_eq!(key(both), "proxy_command");
    }
}
