//! An instance of this test: a process namespace of its own, and a folder.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use runner_manager_core::{Command, CommandOutput, Error, ErrorKind, Exec, ExecGuest, Result};
use tempfile::TempDir;

/// The shells to test, apart by `,`. Default: the one of this machine.
const SHELLS: &str = "RUNNER_MANAGER_TEST_SHELLS";

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn shells() -> Vec<Vec<String>> {
    let shells = std::env::var(SHELLS).unwrap_or("/bin/sh".into());
    let words = |shell: &str| shell.split(' ').map(str::to_owned).collect();
    shells.split(',').map(words).collect()
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The namespace's first process ends with this, and all others with it.
pub(crate) struct Instance {
    first: Child,
    inside: String,
    pub(crate) folder: TempDir,
}

impl Instance {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (program, name) in [("sh", "Runner.Listener"), ("sleep", "Runner.Worker")] {
            let bin = folder.path().join("bin");
            std::fs::create_dir_all(&bin).expect("a folder");
            let program = Path::new("/bin").join(program);
            std::fs::copy(program, bin.join(name)).expect("a copy of a program");
        }
        let cloud_init = folder.path().join("bin/cloud-init");
        let says = "#!/bin/sh\ncat \"${0%/*}/../says\"\n";
        std::fs::write(&cloud_init, says).expect("a file");
        std::fs::write(folder.path().join("says"), "status: running\n").expect("a file");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(cloud_init, executable).expect("permissions");
        std::fs::create_dir(folder.path().join("exchange")).expect("a folder");
        std::fs::create_dir(folder.path().join("_diag")).expect("a folder");
        let everyone = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), everyone).expect("permissions");
        let mut unshare = Process::new("unshare");
        // Without root the namespaces need one that maps this user to root.
        unshare.args(["--user", "--map-root-user"]);
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        // What cloud-init notes is the instance's own.
        let begin = "mount -t tmpfs tmpfs /run && mkdir /run/cloud-init && exec sleep 600";
        unshare.args(["sh", "-c", begin]).stdin(Stdio::null());
        let first = unshare.spawn().expect("unshare of util-linux");
        let children = format!("/proc/{0}/task/{0}/children", first.id());
        let mut inside = String::new();
        eventually("the namespace", || {
            let text = std::fs::read_to_string(&children).unwrap_or_default();
            inside = text.trim().to_owned();
            let comm = std::fs::read_to_string(format!("/proc/{inside}/comm"));
            comm.is_ok_and(|comm| comm.trim() == "sleep")
        });
        Self {
            first,
            inside,
            folder,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn exchange(&self, name: &str) -> PathBuf {
        self.path("exchange").join(name)
    }

    /// Runs a script of a shell inside, which must succeed.
    pub(crate) fn sh(&self, script: &str) {
        let ended = self.enter(&["/bin/sh", "-c", script]).status();
        assert!(ended.expect("nsenter of util-linux").success(), "{script}");
    }

    /// A program inside.
    pub(crate) fn enter(&self, argv: &[&str]) -> Process {
        let mut process = Process::new("nsenter");
        process.args(["--target", &self.inside, "--user", "--pid", "--mount"]);
        process.arg(format!("--wd={}", self.folder.path().display()));
        process.args(["--preserve-credentials", "--"]).args(argv);
        let path = std::env::var("PATH").unwrap_or_default();
        process.env("PATH", format!("{}:{path}", self.path("bin").display()));
        process.stdin(Stdio::null());
        process
    }

    /// Starts a process of a copied program, and waits until it shows its name. Its parent is
    /// the first process: `nsenter` itself stands still with a child that does.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) {
        let path = self.path("bin").join(program).display().to_string();
        let mut argv = vec!["setsid", "--fork", path.as_str()];
        argv.extend(arguments);
        let started = self.enter(&argv).status();
        assert!(started.expect("nsenter of util-linux").success());
        eventually(program, || self.has(program));
    }

    /// Whether such a process runs. The first process buries no dead.
    pub(crate) fn has(&self, program: &str) -> bool {
        let script = "cat /proc/[0-9]*/stat";
        let output = self.enter(&["/bin/sh", "-c", script]).output();
        let output = output.expect("a look at the processes").stdout;
        let (live, dead) = (format!("({program}) "), format!("({program}) Z"));
        let output = String::from_utf8_lossy(&output);
        output
            .lines()
            .any(|l| l.contains(&live) && !l.contains(&dead))
    }

    pub(crate) fn guest(&self, shell: &[String]) -> ExecGuest<Inside<'_>> {
        let exec = Inside {
            instance: self,
            shell: shell.to_vec(),
        };
        let exchange = self.path("exchange").display().to_string();
        ExecGuest::new(exec, exchange, PATIENCE)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Both fail only for what has ended already.
        let _ = self.first.kill();
        let _ = self.first.wait();
    }
}

/// Runs commands in the namespace, with another shell in the place of `/bin/sh`.
pub(crate) struct Inside<'a> {
    instance: &'a Instance,
    shell: Vec<String>,
}

#[async_trait]
impl Exec for Inside<'_> {
    async fn exec(&self, command: Command) -> Result<CommandOutput> {
        let mut argv = command.argv;
        if argv[0] == "/bin/sh" {
            argv.splice(0..1, self.shell.iter().cloned());
        }
        let words: Vec<&str> = argv.iter().map(String::as_str).collect();
        let mut process = tokio::process::Command::from(self.instance.enter(&words));
        let output = tokio::time::timeout(command.timeout, process.output()).await;
        let output = output
            .map_err(|_| Error::new(ErrorKind::TimedOut, "no end in time"))?
            .map_err(|e| Error::new(ErrorKind::Unreachable, "cannot enter").with_source(e))?;
        let mut kept = CommandOutput {
            status: output.status.code(),
            ..CommandOutput::default()
        };
        CommandOutput::keep(&mut kept.stdout, &output.stdout);
        CommandOutput::keep(&mut kept.stderr, &output.stderr);
        Ok(kept)
    }
}
