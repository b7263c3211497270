//! The server, reached by its own command-line client: the second opinion of every case.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long the client may take: for a change, and for a short command inside an instance.
const CHANGE: Duration = Duration::from_secs(120);
const COMMAND: Duration = Duration::from_secs(20);
/// How often such a command is tried: LXD's client now and then misses its end, and waits for ever.
const TRIES: u32 = 3;

/// A server that is up.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// `lxd` or `incus`.
    pub(crate) kind: String,
    pub(crate) socket: String,
    cli: String,
}

fn env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; run this by `cargo xtask conformance`"))
}

impl Server {
    /// The one that the peer's environment names.
    pub(crate) fn new() -> Self {
        Self {
            kind: env("PEER_KIND"),
            socket: env("PEER_SOCKET"),
            cli: env("PEER_CLI"),
        }
    }

    /// Runs the client; gives its output, or its words when it failed.
    pub(crate) async fn try_run(&self, words: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let ended = tokio::time::timeout(CHANGE, self.client(words, input)).await;
        ended.unwrap_or_else(|_| Err("no end in time".into()))
    }

    /// Runs a short command inside an instance, which may be done twice.
    pub(crate) async fn exec(&self, words: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        for _ in 0..TRIES {
            match tokio::time::timeout(COMMAND, self.client(words, input)).await {
                Ok(ended) => return ended,
                Err(_) => eprintln!("{} {words:?} does not end; again", self.cli),
            }
        }
        Err("no end in time".into())
    }

    async fn client(&self, words: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
        let mut command = Command::new(&self.cli);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("the client starts");
        let mut stdin = child.stdin.take().expect("an input");
        // A client that reads nothing closes it.
        let _ = stdin.write_all(input).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("the client ends");
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Runs the client, which must succeed.
    pub(crate) async fn run(&self, words: &[&str]) -> Vec<u8> {
        match self.try_run(words, b"").await {
            Ok(output) => output,
            Err(error) => panic!("{} {words:?}: {error}", self.cli),
        }
    }

    /// Asks the API, by the client.
    pub(crate) async fn query(&self, path: &str) -> Value {
        let output = self.run(&["query", path]).await;
        serde_json::from_slice(&output).expect("JSON")
    }

    /// The last segments of the paths that a list of the API holds.
    pub(crate) async fn names(&self, path: &str) -> Vec<String> {
        let listed = self.query(path).await;
        let paths = listed.as_array().cloned().unwrap_or_default();
        let last = |path: &Value| {
            let path = path.as_str()?.split('?').next()?;
            path.rsplit('/').next().map(str::to_owned)
        };
        paths.iter().filter_map(last).collect()
    }
}
