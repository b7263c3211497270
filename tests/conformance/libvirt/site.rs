//! A host of the peer, reached by `virsh` and by the files of its pool: the second opinion of
//! every case.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use runner_manager_core::NamePrefix;
use serde_json::{Value, json};
use tokio::process::Command;

/// How long `virsh` may take; a guest's agent has 30 s of it.
const VIRSH: Duration = Duration::from_secs(120);

/// A host that is up.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) socket: PathBuf,
    /// The folder of the storage pool.
    pub(crate) pool: PathBuf,
    pub(crate) kernel: String,
    pub(crate) initrd: String,
}

fn env(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set; run this by `cargo xtask conformance`"))
}

/// The domain that somebody makes by hand, as small as can be. It does not run a program.
const STRANGER: &str = "<domain type='qemu'><name>NAME</name><memory unit='MiB'>16</memory>\
    <os><type>hvm</type></os></domain>";

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            socket: env("LIBVIRT_SOCKET_A").into(),
            pool: env("LIBVIRT_POOL_A").into(),
            kernel: env("LIBVIRT_KERNEL"),
            initrd: env("LIBVIRT_INITRD"),
        }
    }

    /// The section `[pool.libvirt]` for the socket, whose guests reach a port of this machine's
    /// loopback as one of their own.
    pub(crate) fn section(&self, socket: &std::path::Path, relay: Option<u16>) -> Value {
        let mut command_line = "console=ttyS0 panic=-1 loglevel=4 nokaslr mitigations=off \
                                no_timer_check guest.init=/sbin/guest-init"
            .to_owned();
        if let Some(port) = relay {
            command_line.push_str(&format!(" guest.relay={port}"));
        }
        json!({
            "hosts": [{
                "uri": format!("qemu+unix:///system?socket={}", socket.display()),
                "reserved_memory_mib": 0,
            }],
            "storage_pool": "runners",
            "image": "image.qcow2",
            "vcpus": 1,
            "memory_mib": 192,
            "cpu_overcommit": 100.0,
            "network": "user",
            "kernel": {
                "path": self.kernel,
                "initrd": self.initrd,
                "command_line": command_line,
            },
            "boot": {"runner": {"path": "/opt/suite-runner"}, "update_packages": false},
        })
    }

    /// Runs `virsh`; gives its output, or its words when it failed.
    pub(crate) async fn virsh_at(
        &self,
        socket: &std::path::Path,
        words: &[&str],
    ) -> Result<String, String> {
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let mut command = Command::new(env("LIBVIRT_VIRSH"));
        command.args(["--quiet", "--connect", &uri]).args(words);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let Ok(output) = tokio::time::timeout(VIRSH, command.output()).await else {
            return Err("no end in time".into());
        };
        let output = output.expect("virsh starts");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    pub(crate) async fn virsh(&self, words: &[&str]) -> Result<String, String> {
        self.virsh_at(&self.socket, words).await
    }

    /// The names of all domains that `ours` picks.
    pub(crate) async fn domains(&self, ours: impl Fn(&str) -> bool) -> Vec<String> {
        let listed = self.virsh(&["list", "--all", "--name"]).await;
        let listed = listed.expect("a list of domains");
        let names = listed.lines().map(str::trim).filter(|name| ours(name));
        names.map(str::to_owned).collect()
    }

    /// The files of a prefix's runners in the pool, with this ending.
    pub(crate) fn files(&self, prefix: &NamePrefix, ending: &str) -> Vec<String> {
        let entries = std::fs::read_dir(&self.pool).expect("the pool's folder");
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        let ours = |name: &String| {
            let mut parts = name.split('.');
            let runner = parts.next().unwrap_or_default();
            prefix.owned(runner).is_some() && parts.any(|part| part == ending)
        };
        names.filter(ours).collect()
    }

    /// Ends a domain, and removes its files.
    pub(crate) async fn vanish(&self, name: &str) {
        // It may have ended by itself.
        let _ = self.virsh(&["destroy", name]).await;
        let entries = std::fs::read_dir(&self.pool).expect("the pool's folder");
        for file in entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
        {
            if file.split('.').next() == Some(name) {
                let _ = self
                    .virsh(&["vol-delete", &file, "--pool", "runners"])
                    .await;
            }
        }
    }

    pub(crate) async fn make_stranger(&self, name: &str) {
        let file = self.pool.join(format!("stranger-{name}.xml"));
        std::fs::write(&file, STRANGER.replace("NAME", name)).expect("a file");
        let path = file.display().to_string();
        let made = self.virsh(&["create", "--paused", &path]).await;
        std::fs::remove_file(&file).expect("the file was there");
        made.expect("a domain");
    }

    /// Makes a volume as a launch of this runner would.
    pub(crate) async fn leave(&self, name: &str, kind: &str) {
        let ending = super::harness::ending(kind);
        let volume = format!("{name}.0a1b2c3d.{ending}");
        let base = [
            "--backing-vol",
            "image.qcow2",
            "--backing-vol-format",
            "qcow2",
        ];
        let mut words = vec!["vol-create-as", "runners", &volume, "64k", "--format"];
        match kind {
            "disks" => {
                words[3] = "1G";
                words.push("qcow2");
                words.extend(base);
            }
            _ => words.push("raw"),
        }
        self.virsh(&words).await.expect("a volume");
    }

    /// Runs a shell script in a guest as root, with words for it and input; its output, or
    /// nothing when it failed or there is no agent.
    pub(crate) async fn script(
        &self,
        domain: &str,
        script: &str,
        words: &[&str],
        input: &[u8],
    ) -> Option<Vec<u8>> {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        let mut arguments = vec!["-c", script, "conformance"];
        arguments.extend(words);
        let mut request = json!({"path": "/bin/sh", "arg": arguments, "capture-output": true});
        if !input.is_empty() {
            request["input-data"] = STANDARD.encode(input).into();
        }
        let started = self.agent(domain, "guest-exec", request).await?;
        let pid = started["pid"].as_i64()?;
        for _ in 0..600 {
            let status = self
                .agent(domain, "guest-exec-status", json!({"pid": pid}))
                .await?;
            if status["exited"] == true {
                let output = status["out-data"].as_str().unwrap_or_default();
                let good = status["exitcode"] == 0;
                return good.then(|| STANDARD.decode(output).expect("base64"));
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        None
    }

    async fn agent(&self, domain: &str, command: &str, arguments: Value) -> Option<Value> {
        let request = json!({"execute": command, "arguments": arguments}).to_string();
        let words = ["qemu-agent-command", "--timeout", "30", domain, &request];
        let answer = self.virsh(&words).await.ok()?;
        let mut answer: Value = serde_json::from_str(&answer).ok()?;
        Some(answer["return"].take())
    }
}
