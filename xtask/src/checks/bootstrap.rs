//! What runs on an instance, for real.

use super::translation::Translation;
use crate::failure::{Failure, Result};
use crate::scope::Scope;
use crate::{process, tools, workspace};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// What the step needs of Debian: the program that shows that a package is there, and the package.
const NEEDS: [(&str, &str); 9] = [
    ("busybox", "busybox"),
    ("cloud-init", "cloud-init"),
    ("curl", "curl"),
    ("dockerd", "docker.io"),
    ("mmdebstrap", "mmdebstrap"),
    ("nft", "nftables"),
    ("shellcheck", "shellcheck"),
    ("squid", "squid"),
    ("unshare", "util-linux"),
];

/// Any POSIX shell must do for the scripts that look into an instance.
const SHELLS: &str = "dash,bash,busybox sh";

/// Tests the scripts against Debian's tools, and then in root file systems that boot.
pub(crate) fn test(root: &Path) -> Result<()> {
    install(&NEEDS)?;
    tools::for_scope(root, Scope::Hermetic)?;
    let mut guest = process::cargo(root);
    guest.env("RUNNER_MANAGER_TEST_SHELLS", SHELLS);
    guest.arg("test").args(Scope::Hermetic.arguments(root)?);
    process::test(guest.args(["--test", "guest"]))?;
    boot(root, "amd64", &[])
}

/// Boots root file systems of a machine that QEMU translates.
pub(crate) fn test_arm64(root: &Path) -> Result<()> {
    let needs = [NEEDS.as_slice(), &[Translation::NEEDS]].concat();
    install(&needs)?;
    tools::for_scope(root, Scope::Hermetic)?;
    let _translated = Translation::start()?;
    boot(root, "arm64", &["whole::"])
}

/// Builds the root file system of a machine, and runs these tests on it, or all.
fn boot(root: &Path, machine: &str, tests: &[&str]) -> Result<()> {
    let program = workspace::built(root, Scope::Hermetic, "github-sim")?;
    let mut rootfs = Command::new("bash");
    rootfs.arg(root.join("tests/peers/rootfs/build.sh"));
    rootfs.arg(workspace::target(root).join("peers/rootfs"));
    rootfs.arg(program).env("MACHINE", machine);
    let archive = process::stdout(&mut rootfs)?;

    let mut whole = process::cargo(root);
    whole.env("RUNNER_MANAGER_ROOTFS", archive.trim());
    whole.env("RUNNER_MANAGER_MACHINE", machine);
    whole.arg("test").args(Scope::Hermetic.arguments(root)?);
    whole.args(["--test", "bootstrap", "--", "--nocapture"]);
    process::test(whole.args(tests)).map(drop)
}

/// Installs what is missing, without starting anything.
fn install(needs: &[(&str, &str)]) -> Result<()> {
    let on_path = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    };
    let missing = needs.iter().filter(|(program, _)| !on_path(program));
    let missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let _quiet = Quiet::start()?;
    apt(&["update"])?;
    apt(&[&["--no-install-recommends", "install"], missing.as_slice()].concat())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["-o", "DPkg::Lock::Timeout=900", "-qq", "-y"]);
    process::stream(apt.args(arguments))
}

/// Keeps packages from starting their daemons, by Debian's own means.
struct Quiet {
    made: bool,
}

impl Quiet {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn start() -> Result<Self> {
        let made = !Path::new(Self::POLICY).exists();
        if made {
            let failed = || Failure::because(format!("cannot write {}", Self::POLICY));
            fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").map_err(failed())?;
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(Self::POLICY, mode).map_err(failed())?;
        }
        Ok(Self { made })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.made {
            // What stays is harmless: it keeps daemons from starting by themselves.
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}
