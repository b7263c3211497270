//! One machine: a root file system over the shared one, and namespaces for processes, mounts and
//! the host name. It shares the network with the test.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::cloud::run;

/// Boots as an init system would: the stages of cloud-init, one after the other.
const INIT: &str = r#"#!/bin/sh
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
cloud-init init --local
cloud-init init
cloud-init modules --mode=config
cloud-init modules --mode=final
while :; do sleep 3600; done
"#;

/// In the place of programs that a container has no use for. They note how they were called.
const STUB: &str = "#!/bin/sh\necho \"${0##*/} $*\" >>/var/log/stubs\n";

/// What is kept of a machine's files.
const KEPT: [&str; 20] = [
    "etc/docker/daemon.json",
    "etc/systemd/system/docker.service.d/runner-manager-proxy.conf",
    "etc/apt/apt.conf.d/95-runner-manager",
    "home/ubuntu/.docker/config.json",
    "home/ubuntu/metrics-exchange/post-job-metrics.json",
    "home/ubuntu/metrics-exchange/pre-job-metrics.json",
    "home/ubuntu/metrics-exchange/runner-installed.timestamp",
    "home/ubuntu/listener",
    "home/ubuntu/notes",
    "home/ubuntu/seen",
    "home/ubuntu/stolen",
    "home/ubuntu/who",
    "opt/runner-manager/callback-token",
    "opt/runner-manager/credential",
    "opt/runner-manager/finished",
    "opt/runner-manager/nonce",
    "owned",
    "srv/actions-runner/.env",
    "var/log/cloud-init-output.log",
    "var/log/stubs",
];

pub(crate) struct Machine {
    root: PathBuf,
    work: PathBuf,
    console: PathBuf,
    first: Mutex<Child>,
    inside: String,
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
}

impl Machine {
    pub(crate) fn boot(lower: &Path, work: &Path, id: &str, user_data: &str) -> Self {
        std::fs::create_dir_all(work).expect("a folder");
        let text = |path: &Path| path.display().to_string();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "mode=755", "tmpfs", &text(work)],
        );
        let root = work.join("root");
        for name in ["upper", "work", "root"] {
            std::fs::create_dir(work.join(name)).expect("a folder");
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            work.join("upper").display(),
            work.join("work").display()
        );
        run(
            "mount",
            &["-t", "overlay", "overlay", "-o", &options, &text(&root)],
        );
        let seed = root.join("var/lib/cloud/seed/nocloud-net");
        write(&seed.join("user-data"), user_data, 0o600);
        write(
            &seed.join("meta-data"),
            &format!("instance-id: {id}\n"),
            0o600,
        );
        write(&root.join("boot.sh"), INIT, 0o755);
        for stub in [
            "usr/sbin/poweroff",
            "usr/bin/systemctl",
            "usr/bin/dockerd",
            "usr/bin/snap",
        ] {
            let path = root.join(stub);
            // Links lead out of the root file system.
            let _ = std::fs::remove_file(&path);
            write(&path, STUB, 0o755);
        }
        let console = work.join("console");
        let output = std::fs::File::create(&console).expect("a file");
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
        ]);
        unshare.args(["chroot", &text(&root), "/usr/bin/env", "-i"]);
        unshare.args(["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "/boot.sh"]);
        unshare
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a file"));
        let first = unshare
            .stdout(output)
            .spawn()
            .expect("unshare of util-linux");
        let children = format!("/proc/{0}/task/{0}/children", first.id());
        let begin = Instant::now();
        let inside = loop {
            let found = std::fs::read_to_string(&children).unwrap_or_default();
            if !found.trim().is_empty() {
                break found.trim().to_owned();
            }
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "no process in the namespace"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        Self {
            root,
            work: work.to_owned(),
            console,
            first: Mutex::new(first),
            inside,
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        let mut first = self.first.lock().expect("the first process");
        first.try_wait().expect("a look").is_none()
    }

    pub(crate) fn enter(&self, argv: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.inside,
            "--mount",
            "--uts",
            "--ipc",
            "--pid",
        ]);
        command.args(["--root", "--wd=/", "--", "/usr/bin/env", "-i"]);
        command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin").args(argv);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn console(&self) -> String {
        std::fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// Ends the machine and gives what is kept of it.
    pub(crate) fn end(&self) -> BTreeMap<String, String> {
        let kept = KEPT.iter().filter_map(|name| {
            let text = std::fs::read(self.root.join(name)).ok()?;
            Some((
                (*name).to_owned(),
                String::from_utf8_lossy(&text).into_owned(),
            ))
        });
        let mut kept: BTreeMap<String, String> = kept.collect();
        kept.insert("console".into(), self.console());
        let mut first = self.first.lock().expect("the first process");
        // Fails for what has ended already.
        let _ = first.kill();
        let _ = first.wait();
        for mount in [&self.root, &self.work] {
            let _ = Command::new("umount").arg("--lazy").arg(mount).status();
        }
        kept
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.is_running() {
            self.end();
        }
    }
}
