//! The machines behind moto's instances: namespaces of this machine with the peer's root, overlaid,
//! which run the user-data that the backend made, and let the manager in over SSH.
//! `tests/peers/openstack/machine` is what they boot.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::json;

use crate::proxy::Host;

/// All machines of a run.
pub(crate) struct Machines {
    base: PathBuf,
    scripts: PathBuf,
    machines: Mutex<HashMap<String, Machine>>,
    next: AtomicU32,
}

struct Machine {
    name: String,
    folder: PathBuf,
    /// `unshare`, whose child is the machine's first process.
    child: Option<Child>,
    address: Ipv4Addr,
}

impl Machines {
    /// `base` is an absolute folder on a file system that can be the top of an overlay.
    pub(crate) fn new(base: PathBuf, scripts: PathBuf) -> Self {
        for folder in ["machines", "outside"] {
            fs::create_dir_all(base.join(folder)).expect("a folder");
        }
        Self {
            base,
            scripts,
            machines: Mutex::default(),
            next: AtomicU32::new(1),
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Machine>> {
        self.machines.lock().expect("no test panics with the lock")
    }

    /// Boots a machine for an instance, and gives its address.
    pub(crate) fn boot(&self, instance: &str, name: &str, user_data: &[u8]) -> Ipv4Addr {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // Below 127.0.0.0/8 every address is this machine's; the first ones are others'.
        // Those of another run of this program may still be taken.
        let run = (std::process::id() % 0x3FF) << 12;
        let address = Ipv4Addr::from(0x7F40_0000 + run + number);
        let folder = self.base.join("machines").join(instance);
        fs::create_dir(&folder).expect("a folder");
        let metadata = json!({
            "name": name,
            "uuid": instance,
            "addresses": [address],
            "public_key": authorized_key(user_data).unwrap_or_default(),
            "runner": self.scripts.join("runner"),
        });
        fs::write(folder.join("metadata.json"), metadata.to_string()).expect("a file");
        fs::write(folder.join("user-data"), user_data).expect("a file");
        let log = fs::File::create(folder.join("console.log")).expect("a file");
        let mut command = Command::new(crate::site::variable("EC2_PEER_UNSHARE"));
        command
            .args(["--pid", "--mount", "--uts", "--fork", "--kill-child"])
            .arg(self.scripts.join("boot"))
            .arg(&folder)
            .env("RM_PEER_STATE", &self.base)
            .env("RM_PEER_MACHINE", &self.scripts)
            .env("RM_PEER_NETNS", "/proc/self/ns/net")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .process_group(0);
        let child = command.spawn().expect("unshare starts");
        // What `down.sh` stops, should this program end before its machines.
        let start = start_time(child.id()).unwrap_or_default();
        fs::write(folder.join("pid"), format!("{} {start}", child.id())).expect("a file");
        let machine = Machine {
            name: name.to_owned(),
            folder,
            child: Some(child),
            address,
        };
        self.all().insert(instance.to_owned(), machine);
        address
    }

    /// The address of an instance's machine.
    pub(crate) fn address(&self, instance: &str) -> Option<Ipv4Addr> {
        self.all().get(instance).map(|machine| machine.address)
    }

    /// Cuts a machine's power.
    pub(crate) fn stop(&self, instance: &str) {
        let child = self
            .all()
            .get_mut(instance)
            .and_then(|machine| machine.child.take());
        if let Some(mut child) = child {
            let group = Pid::from_child(&child);
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
            let _ = child.wait();
        }
    }

    /// Takes a machine away, and all that it wrote.
    pub(crate) fn remove(&self, instance: &str) {
        self.stop(instance);
        let machine = self.all().remove(instance);
        if let Some(machine) = machine {
            // Its mounts end a moment after its last process.
            for _ in 0..50 {
                if fs::remove_dir_all(&machine.folder).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// The folder that outlives the machines of a name.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.base.join("outside").join(name)
    }

    /// What a machine wrote to its own root.
    pub(crate) fn written(&self, instance: &str) -> Option<PathBuf> {
        self.all()
            .get(instance)
            .map(|machine| machine.folder.join("top"))
    }

    /// The root of a running machine.
    pub(crate) fn root(&self, instance: &str) -> Option<PathBuf> {
        let first = self.first(instance)?;
        let folder = self
            .all()
            .get(instance)
            .map(|machine| machine.folder.clone())?;
        let below = folder.strip_prefix("/").ok()?.join("root");
        Some(
            Path::new("/proc")
                .join(first.to_string())
                .join("root")
                .join(below),
        )
    }

    /// The instances of machines with these names.
    pub(crate) fn named(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let all = self.all();
        let found = all.iter().filter(|(_, machine)| wanted(&machine.name));
        found.map(|(instance, _)| instance.clone()).collect()
    }

    /// A machine's first process.
    fn first(&self, instance: &str) -> Option<u32> {
        let unshare = self.all().get(instance)?.child.as_ref()?.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        fs::read_to_string(children)
            .ok()?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    }

    /// The processes of a machine, with their names.
    pub(crate) fn processes(&self, instance: &str) -> Vec<(i32, String)> {
        let Some(first) = self.first(instance) else {
            return Vec::new();
        };
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(own) = namespace(&first.to_string()) else {
            return Vec::new();
        };
        let entries = fs::read_dir("/proc").expect("the processes").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let pids =
            pids.filter(|pid| pid.parse::<i32>().is_ok() && namespace(pid).as_ref() == Some(&own));
        let found = pids.filter_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some((pid.parse().ok()?, name.trim().to_owned()))
        });
        found.collect()
    }

    /// Sends a signal to the processes of a machine that have one of these names.
    pub(crate) fn signal(&self, instance: &str, names: &[&str], signal: Signal) {
        for (pid, name) in self.processes(instance) {
            if names.contains(&name.as_str())
                && let Some(pid) = Pid::from_raw(pid)
            {
                // It may have ended by itself.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Starts a machine's SSH server again.
    pub(crate) fn start_ssh(&self, instance: &str) {
        let (Some(first), Some(folder)) = (
            self.first(instance),
            self.all()
                .get(instance)
                .map(|machine| machine.folder.clone()),
        ) else {
            return;
        };
        let mut command = inside(first, &folder);
        command.args(["/usr/sbin/sshd", "-f", "/run/machine/sshd_config"]);
        // A machine that ends meanwhile needs none.
        let _ = command.status();
    }

    /// Offers a job to the runner of a machine: whether it was taken.
    pub(crate) fn offer(&self, name: &str) -> bool {
        let mut open = fs::OpenOptions::new();
        open.write(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        let pipe = open.open(self.outside(name).join("jobs"));
        // Refused until the runner reads.
        pipe.is_ok_and(|mut pipe| std::io::Write::write_all(&mut pipe, b"job\n").is_ok())
    }

    /// Whether a job has begun on a machine of this name.
    pub(crate) fn has_begun(&self, name: &str) -> bool {
        self.outside(name).join("begun").exists()
    }
}

impl Host for Machines {
    fn boot(&self, instance: &str, name: &str, user_data: &[u8]) -> Ipv4Addr {
        Self::boot(self, instance, name, user_data)
    }

    fn address(&self, instance: &str) -> Option<Ipv4Addr> {
        Self::address(self, instance)
    }

    fn shell(&self, instance: &str) -> Option<Command> {
        let booted = self
            .processes(instance)
            .iter()
            .any(|(_, name)| name == "sshd");
        let first = self.first(instance).filter(|_| booted)?;
        let mut command = inside(first, &self.all().get(instance)?.folder);
        command.arg("/bin/sh");
        Some(command)
    }

    fn end(&self, instance: &str) {
        self.remove(instance);
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        let all: Vec<String> = self.all().keys().cloned().collect();
        for instance in all {
            self.remove(&instance);
        }
    }
}

/// What runs a command on the machine of this first process and folder.
fn inside(first: u32, folder: &Path) -> Command {
    let target = first.to_string();
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &target, "--pid", "--mount", "--uts", "--"])
        .arg("chroot")
        .arg(folder.join("root"));
    command
}

/// The time a process started, as the kernel counts it.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = stat.rsplit(')').next()?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

/// The key that user-data lets in.
fn authorized_key(user_data: &[u8]) -> Option<String> {
    let mut text = String::new();
    if user_data.starts_with(&[0x1f, 0x8b]) {
        flate2::read::GzDecoder::new(user_data)
            .read_to_string(&mut text)
            .expect("gzip");
    } else {
        text = String::from_utf8_lossy(user_data).into_owned();
    }
    let mut lines = text
        .lines()
        .skip_while(|line| *line != "ssh_authorized_keys:");
    let line = lines.nth(1)?.trim().strip_prefix("- ")?;
    serde_json::from_str(line).ok()
}
