//! The inside of servers: machines of the peer's hypervisor, which are namespaces of this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use runner_manager_conformance::{Fault, Planted, Received, trace};
use runner_manager_core::{CloudInitStatus, ExchangeFile, NamePrefix, RunnerName};
use serde_json::Value;

const EXCHANGE: &str = "/home/ubuntu/metrics-exchange";

/// Valid metrics of every kind of file.
fn valid(file: ExchangeFile) -> &'static str {
    match file {
        ExchangeFile::Installed => "1700000000\n",
        ExchangeFile::PreJob => {
            r#"{"timestamp":1700000000,"workflow":"a","workflow_run_id":"1","repository":"o/r","event":"push"}"#
        }
        ExchangeFile::PostJob => r#"{"timestamp":1700000000,"status":"normal"}"#,
    }
}

/// The machine of a server.
pub(crate) struct Machine {
    folder: PathBuf,
    name: String,
}

/// The machines of a prefix.
pub(crate) fn all(state: &Path, prefix: &NamePrefix) -> Vec<Machine> {
    let folders = fs::read_dir(state.join("machines"))
        .into_iter()
        .flatten()
        .flatten();
    let machines = folders.filter_map(|entry| {
        let folder = entry.path();
        let metadata = fs::read_to_string(folder.join("metadata.json")).ok()?;
        let metadata: Value = serde_json::from_str(&metadata).ok()?;
        let name = metadata["name"].as_str()?.to_owned();
        prefix.owned(&name).map(|_| Machine { folder, name })
    });
    machines.collect()
}

/// The machine of a runner.
pub(crate) fn of(state: &Path, name: &RunnerName) -> Option<Machine> {
    all(state, name.prefix())
        .into_iter()
        .find(|machine| machine.name == name.to_string())
}

/// The folder of a runner that outlives its machine.
pub(crate) fn outside(state: &Path, name: &RunnerName) -> PathBuf {
    state.join("outside").join(name.to_string())
}

impl Machine {
    /// Its first process, as this machine numbers it.
    fn first(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder.join("pid")).ok()?;
        let outer = text.split_whitespace().next()?.to_owned();
        let children = fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).ok()?;
        children.split_whitespace().next().map(str::to_owned)
    }

    /// Runs a script on it, as root; `None` when it is off.
    pub(crate) fn run(&self, script: &str, arguments: &[&str]) -> Option<Output> {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.first()?,
            "--mount",
            "--pid",
            "--uts",
            "chroot",
        ]);
        command
            .arg(self.folder.join("root"))
            .args(["/bin/sh", "-c", script, "sh"])
            .args(arguments);
        command.stdin(Stdio::null()).output().ok()
    }

    fn must(&self, script: &str, arguments: &[&str]) {
        let output = self.run(script, arguments).expect("the machine is on");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {stderr}");
    }

    /// Offers a job; whether the runner took it.
    pub(crate) fn offer(&self) -> bool {
        // The runner opens the pipe to read; a pipe that nobody reads refuses.
        let script = "[ -p /outside/jobs ] && timeout 2 sh -c 'echo job >/outside/jobs'";
        self.run(script, &[])
            .is_some_and(|output| output.status.success())
    }

    pub(crate) fn works(&self) -> bool {
        let output = self.run("cat /proc/[0-9]*/comm", &[]);
        output.is_some_and(|o| {
            String::from_utf8_lossy(&o.stdout)
                .lines()
                .any(|l| l == "Runner.Worker")
        })
    }

    /// Ends the runner program and all that belongs to it.
    pub(crate) fn end_runner(&self) {
        self.must("for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in Runner.*) kill -9 ${p#/proc/} ;; esac; done", &[]);
    }

    pub(crate) fn set_cloud_init(&self, status: CloudInitStatus) {
        self.must(
            "echo \"$1\" >/run/cloud-init-status",
            &[&status.to_string()],
        );
    }

    pub(crate) fn put(&self, file: ExchangeFile, what: Planted) {
        let path = format!("{EXCHANGE}/{}", file.file_name());
        self.must("rm -rf \"$1\"", &[&path]);
        match what {
            Planted::Nothing => {}
            Planted::Bytes(bytes) => {
                let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
                // In pieces: a word has at most 128 KiB.
                for piece in octal.as_bytes().chunks(4 * 16_384) {
                    let piece = String::from_utf8_lossy(piece);
                    self.must(
                        "printf \"$2\" >>\"$1\"; chown ubuntu: \"$1\"",
                        &[&path, &piece],
                    );
                }
            }
            Planted::Symlink => {
                let script = "printf %s \"$2\" >/home/ubuntu/target; ln -s /home/ubuntu/target \"$1\"; chown -h ubuntu: \"$1\" /home/ubuntu/target";
                self.must(script, &[&path, valid(file)]);
            }
            Planted::Endless => self.must("mkfifo \"$1\"; chown ubuntu: \"$1\"", &[&path]),
        }
    }

    /// Breaks the way in.
    pub(crate) fn fail(&self, fault: Fault) {
        const EACH: &str = "for p in /proc/[0-9]*; do if [ \"$(cat $p/comm 2>/dev/null)\" = sshd ]; then kill -$1 ${p#/proc/}; fi; done";
        // Nobody gets into one that is off, whatever breaks.
        if self.first().is_none() {
            return;
        }
        match fault {
            Fault::GuestHangs => self.must(EACH, &["STOP"]),
            Fault::GuestUnreachable => self.must(EACH, &["KILL"]),
            _ => {
                self.must(
                    "mv /home/ubuntu/.ssh/authorized_keys /home/ubuntu/.ssh/kept",
                    &[],
                );
                // Those who are in already are sent out; the first of the servers stays.
                self.must("for p in /proc/[0-9]*; do if [ \"$(cat $p/comm 2>/dev/null)\" = sshd ] && ! grep -q -- -f $p/cmdline; then kill -KILL ${p#/proc/}; fi; done", &[]);
            }
        }
    }

    pub(crate) fn mend(&self) {
        let _ = self.run("for p in /proc/[0-9]*; do if [ \"$(cat $p/comm 2>/dev/null)\" = sshd ]; then kill -CONT ${p#/proc/}; fi; done; [ ! -e /home/ubuntu/.ssh/kept ] || mv /home/ubuntu/.ssh/kept /home/ubuntu/.ssh/authorized_keys", &[]);
        let serves = self.run("grep -lsx sshd /proc/[0-9]*/comm", &[]);
        if let Some(first) = self.first()
            && serves.is_some_and(|output| output.stdout.is_empty())
        {
            let mut sshd = Command::new("nsenter");
            sshd.args([
                "--target",
                &first,
                "--mount",
                "--pid",
                &format!(
                    "--net={}",
                    super::harness::variable("OPENSTACK_NETNS").display()
                ),
                "chroot",
            ]);
            sshd.arg(self.folder.join("root")).args([
                "/usr/sbin/sshd",
                "-f",
                "/run/machine/sshd_config",
            ]);
            let _ = sshd.stdin(Stdio::null()).status();
        }
    }

    /// The files on it that others than root and the runner's user can read, and that are not
    /// this machine's own.
    pub(crate) fn readable(&self) -> Vec<(String, Vec<u8>)> {
        let script = "find /opt/runner-manager /run/machine /var/lib/cloud /home /etc/ssh -type f -perm -o=r 2>/dev/null";
        let Some(output) = self.run(script, &[]) else {
            return Vec::new();
        };
        let paths = String::from_utf8_lossy(&output.stdout).into_owned();
        let read = |path: &str| {
            Some((
                path.to_owned(),
                self.run("runuser -u nobody -- cat \"$1\"", &[path])?.stdout,
            ))
        };
        paths.lines().filter_map(read).collect()
    }
}

/// What `config.sh` was called with.
pub(crate) fn received(state: &Path, name: &RunnerName) -> Option<Received> {
    let text = fs::read_to_string(outside(state, name).join("received")).ok()?;
    let words: Vec<&str> = text.split_terminator('\0').collect();
    let after = |option: &str| {
        let at = words.iter().position(|word| *word == option)?;
        words.get(at + 1).copied()
    };
    let trace = trace(name);
    let inside = of(state, name)?.run("[ -e \"$1\" ]", &[trace.to_str()?])?;
    Some(Received {
        name: after("--name")?.to_owned(),
        labels: after("--labels")?.split(',').map(str::to_owned).collect(),
        group: after("--runnergroup").map(str::to_owned),
        traced: trace.exists() || inside.status.success(),
    })
}
