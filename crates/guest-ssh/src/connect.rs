//! Making a connection: directly, through a jump host, or through a program.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{Error, ErrorKind, Result};
use russh::client::{self, AuthResult, Handle};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{ChannelOpenFailure, Limits, Preferred};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::config::{JumpHost, SshConfig};
use crate::fault::{Fault, reach, unreachable};

/// The flow-control window of a channel, and so about the most memory that a host can make a
/// connection hold.
const WINDOW: u32 = 64 * 1024;

/// Takes the pinned host key, and no other. A host can open no channel: russh refuses them.
pub(crate) struct Pinned(PublicKey);

impl client::Handler for Pinned {
    type Error = Fault;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Fault> {
        match shown {
            PublicKeyOrCertificate::PublicKey { key, .. }
                if key.key_data() == self.0.key_data() =>
            {
                Ok(true)
            }
            PublicKeyOrCertificate::PublicKey { key, .. } => {
                Err(Fault::HostKey(key.fingerprint(Default::default())))
            }
            PublicKeyOrCertificate::Certificate(_) => Err(Fault::Certificate),
        }
    }
}

/// A connection that is logged in.
pub(crate) struct Connection {
    pub(crate) handle: Handle<Pinned>,
    /// The jump host's connection, which this one runs through.
    _through: Option<Arc<Connection>>,
    /// The proxy command; it is killed with the connection.
    _proxy: Option<Child>,
}

impl Connection {
    pub(crate) fn is_open(&self) -> bool {
        !self.handle.is_closed()
    }
}

/// Whom to log in to, and as whom.
pub(crate) struct Login<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) host_key: &'a PublicKey,
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream> {
    let connect = async {
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    connect.await.map_err(|error: std::io::Error| {
        unreachable("cannot connect")
            .with_context("host", host)
            .with_context("port", port)
            .with_source(error)
    })
}

/// Speaks SSH over a stream, and logs in, before its deadline.
async fn log_in(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    login: &Login<'_>,
    ssh: &SshConfig,
) -> Result<Handle<Pinned>> {
    let config = client::Config {
        inactivity_timeout: Some(Duration::from_secs(ssh.idle_seconds)),
        window_size: WINDOW,
        limits: Limits::default(),
        preferred: Preferred {
            key: vec![login.host_key.algorithm()].into(),
            ..Preferred::default()
        },
        ..client::Config::default()
    };
    let pinned = Pinned(login.host_key.clone());
    let session = async {
        let session = client::connect_stream(Arc::new(config), stream, pinned).await;
        authenticate(session.map_err(Fault::into_error)?, login).await
    };
    let outcome = reach(ssh.connect_timeout(), ErrorKind::TimedOut, session).await;
    outcome.map_err(|e| e.with_context("host", login.host))
}

async fn authenticate(mut handle: Handle<Pinned>, login: &Login<'_>) -> Result<Handle<Pinned>> {
    let key = PrivateKeyWithHashAlg::new(Arc::clone(&login.key), None);
    let answer = handle.authenticate_publickey(login.user, key).await;
    match answer.map_err(|error| Fault::from(error).into_error())? {
        AuthResult::Success => Ok(handle),
        AuthResult::Failure { .. } if handle.is_closed() => {
            Err(unreachable("the host hung up during the log-in"))
        }
        AuthResult::Failure { .. } => {
            let message = "the host does not take the key";
            Err(Error::new(ErrorKind::PermissionDenied, message).with_context("user", login.user))
        }
    }
}

/// Connects to a host that can be reached without a detour.
pub(crate) async fn direct(config: &SshConfig, login: &Login<'_>) -> Result<Connection> {
    let limit = config.connect_timeout();
    let stream = tcp(login.host, login.port);
    let stream = reach(limit, ErrorKind::Unreachable, stream).await?;
    Ok(Connection {
        handle: log_in(stream, login, config).await?,
        _through: None,
        _proxy: None,
    })
}

/// Connects through another connection.
pub(crate) async fn through(
    config: &SshConfig,
    jump: Arc<Connection>,
    login: &Login<'_>,
) -> Result<Connection> {
    let limit = config.connect_timeout();
    let open = async {
        let port = login.port.into();
        let open = jump
            .handle
            .channel_open_direct_tcpip(login.host, port, "127.0.0.1", 0);
        open.await.map_err(|error| {
            let kind = match error {
                russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => {
                    ErrorKind::Unreachable
                }
                // It says nothing about the instance.
                _ => ErrorKind::Unexpected,
            };
            Error::new(kind, "the jump host does not connect")
                .with_context("host", login.host)
                .with_source(error)
        })
    };
    let channel = reach(limit, ErrorKind::Unreachable, open).await?;
    Ok(Connection {
        handle: log_in(channel.into_stream(), login, config).await?,
        _through: Some(jump),
        _proxy: None,
    })
}

/// Connects through the standard input and output of a program.
pub(crate) async fn by_command(config: &SshConfig, login: &Login<'_>) -> Result<Connection> {
    let mut words = config.proxy_command.iter().map(|word| {
        word.replace("%h", login.host)
            .replace("%p", &login.port.to_string())
    });
    let program = words.next().unwrap_or_default();
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Local, "cannot start the proxy command")
            .with_context("program", &program)
            .with_source(error)
    };
    let mut child = Command::new(&program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(Error::new(
            ErrorKind::Local,
            "the proxy command has no pipes",
        ));
    };
    let handle = log_in(tokio::io::join(stdout, stdin), login, config).await?;
    Ok(Connection {
        handle,
        _through: None,
        _proxy: Some(child),
    })
}

/// The keys of a jump host.
pub(crate) struct JumpKeys {
    pub(crate) key: Arc<PrivateKey>,
    pub(crate) host_key: PublicKey,
}

impl JumpKeys {
    /// Reads them. Small and local.
    pub(crate) fn read(jump: &JumpHost) -> Result<Self> {
        let wrong = |key, message: &str| {
            Error::new(ErrorKind::InvalidConfig, message).with_context("key", key)
        };
        let host_key = PublicKey::from_openssh(&jump.host_key).map_err(|e| {
            wrong("jump.host_key", "is no public key in OpenSSH's format").with_source(e)
        })?;
        let key =
            read_private(&jump.key_file).map_err(|e| e.with_context("key", "jump.key_file"))?;
        Ok(Self {
            key: Arc::new(key),
            host_key,
        })
    }
}

fn read_private(path: &Path) -> Result<PrivateKey> {
    let wrong = |message: &str| {
        Error::new(ErrorKind::InvalidConfig, message).with_context("file", path.display())
    };
    let key = PrivateKey::read_openssh_file(path)
        .map_err(|e| wrong("cannot read the private key, in OpenSSH's format").with_source(e))?;
    if key.is_encrypted() {
        return Err(wrong("the private key has a passphrase; give one without"));
    }
    Ok(key)
}
