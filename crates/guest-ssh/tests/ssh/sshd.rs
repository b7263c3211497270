//! A real OpenSSH server on loopback.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runner_manager_core::RunnerName;
use runner_manager_guest_ssh::{RunnerKeys, SshConfig, Target};

const INSTALLED: &str = "/usr/sbin/sshd";
/// How many addresses each server answers on.
const ADDRESSES: u8 = 16;

/// Loopback addresses that no other server of these tests has: a port that is free on them stays
/// free until the server takes it.
fn network() -> [u8; 2] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() * 64;
    let [_, _, high, low] = number.to_be_bytes();
    [high.clamp(1, 254), low]
}

fn address(network: [u8; 2], n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, network[0], network[1], n)
}

/// OpenSSH's server, of which the checks provide one. Nothing is skipped: without it the tests fail.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("GUEST_SSH_SSHD") {
        return program.into();
    }
    assert!(
        Path::new(INSTALLED).exists(),
        "OpenSSH's server is not installed; `cargo xtask test --only servers` provides one"
    );
    fs::create_dir_all("/run/sshd").expect("sshd has its folder");
    INSTALLED.into()
}

/// The user of the tests.
pub(crate) fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8(output.stdout)
        .expect("a name")
        .trim()
        .to_owned()
}

pub(crate) fn keys() -> Arc<RunnerKeys> {
    let name: RunnerName = "app-0123456789ab".parse().expect("a name");
    Arc::new(RunnerKeys::generate(&name).expect("keys"))
}

/// A server that has the host key of `keys`, and lets its client key in.
pub(crate) struct Sshd {
    child: Child,
    folder: tempfile::TempDir,
    network: [u8; 2],
    pub(crate) port: u16,
    pub(crate) keys: Arc<RunnerKeys>,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        let keys = keys();
        let client = keys.client_public().expect("a key");
        Self::start_with(keys, &client)
    }

    pub(crate) fn start_with(keys: Arc<RunnerKeys>, authorized: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let config = keys.cloud_config().expect("a part");
        let host_key = config
            .expose()
            .lines()
            .find_map(|l| l.trim().strip_prefix("ed25519_private: "));
        let host_key: String = serde_json::from_str(host_key.expect("a key")).expect("a string");
        write_private(&at("host"), &host_key);
        fs::write(at("authorized"), format!("{authorized}\n")).expect("a file");
        let network = network();
        let port = TcpListener::bind((address(network, ADDRESSES), 0))
            .and_then(|l| l.local_addr())
            .expect("a port")
            .port();
        let listen: String = (1..=ADDRESSES)
            .map(|n| format!("ListenAddress {}\n", address(network, n)))
            .collect();
        let text = format!(
            "Port {port}\n{listen}HostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nMaxStartups 100\nLogLevel VERBOSE\n\
             PermitRootLogin yes\nMaxSessions 100\n",
            at("host").display(),
            at("authorized").display(),
        );
        fs::write(at("config"), text).expect("a file");
        let mut sshd = Command::new(program());
        sshd.arg("-D")
            .arg("-f")
            .arg(at("config"))
            .arg("-E")
            .arg(at("log"));
        let child = sshd.stdin(Stdio::null()).spawn().expect("sshd starts");
        let server = Self {
            child,
            folder,
            network,
            port,
            keys,
        };
        let end = Instant::now() + Duration::from_secs(30);
        // It does not bind them in the order in which they are listed.
        let is_closed = |n| TcpStream::connect((address(network, n), port)).is_err();
        while (1..=ADDRESSES).any(is_closed) {
            assert!(
                Instant::now() < end,
                "sshd does not answer: {}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How often somebody logged in.
    pub(crate) fn log_ins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    pub(crate) fn config(&self) -> SshConfig {
        SshConfig {
            user: user(),
            port: self.port,
            connect_seconds: 20,
            ..SshConfig::default()
        }
    }

    /// The n-th address that the server answers on.
    pub(crate) fn target(&self, n: u8) -> Target {
        Target {
            id: format!("server-{n}"),
            address: IpAddr::V4(address(self.network, n)),
            keys: Arc::clone(&self.keys),
        }
    }

    /// A folder for files of the test.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a private key so that OpenSSH accepts it.
pub(crate) fn write_private(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .expect("a file");
    file.write_all(text.as_bytes()).expect("written");
}
