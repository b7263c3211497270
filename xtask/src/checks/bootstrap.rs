//! What runs on an instance, for real.

use super::translation::Translation;
use crate::failure::Result;
use crate::peers::{self, Peer};
use crate::scope::Scope;
use crate::{process, tools, workspace};
use std::path::Path;
use std::process::Command;

/// The peer that provides Debian's tools: `tests/peers/bootstrap`.
pub(crate) const PEER: &str = "bootstrap";

/// Tests the scripts against Debian's tools, and then in root file systems that boot.
pub(crate) fn test(root: &Path) -> Result<()> {
    Peer::of(root, PEER).during(|environment| {
        tools::for_scope(root, Scope::Hermetic)?;
        let mut guest = process::cargo(root);
        guest.env("RUNNER_MANAGER_TEST_SHELLS", shells(environment));
        guest.arg("test").args(Scope::Hermetic.arguments(root)?);
        process::test(guest.args(["--test", "guest"]))?;
        boot(root, "amd64", environment, &[])
    })
}

/// Boots root file systems of a machine that QEMU translates.
pub(crate) fn test_arm64(root: &Path) -> Result<()> {
    Peer::of(root, PEER).during(|environment| {
        tools::for_scope(root, Scope::Hermetic)?;
        let qemu = peers::unpacked(root, "qemu-user-static")?;
        let _translated = Translation::start(&qemu.join("usr/bin/qemu-aarch64-static"))?;
        boot(root, "arm64", environment, &["whole::"])
    })
}

/// Any POSIX shell must do for the scripts that look into an instance. They run on the host, as
/// busybox can: its program needs no library.
fn shells(environment: &[(String, String)]) -> String {
    let busybox = environment
        .iter()
        .find(|(key, _)| key == "BOOTSTRAP_BUSYBOX");
    let busybox = busybox.map_or("busybox", |(_, path)| path);
    format!("dash,bash,{busybox} sh")
}

/// Builds the root file system of a machine, and runs these tests on it, or all.
fn boot(
    root: &Path,
    machine: &str,
    environment: &[(String, String)],
    tests: &[&str],
) -> Result<()> {
    let program = workspace::built(root, Scope::Hermetic, "github-sim")?;
    let mut rootfs = Command::new("bash");
    rootfs.arg(root.join("tests/peers/rootfs/build.sh"));
    rootfs.arg(workspace::target(root).join("peers/rootfs"));
    rootfs.arg(program).env("MACHINE", machine);
    let archive = process::stdout(&mut rootfs)?;

    let mut whole = process::cargo(root);
    whole.envs(environment.iter().map(|(key, value)| (key, value)));
    whole.env("RUNNER_MANAGER_ROOTFS", archive.trim());
    whole.env("RUNNER_MANAGER_MACHINE", machine);
    whole.arg("test").args(Scope::Hermetic.arguments(root)?);
    whole.args(["--test", "bootstrap", "--", "--nocapture"]);
    process::test(whole.args(tests)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busybox_is_the_one_of_the_peer() {
        let path = ("BOOTSTRAP_BUSYBOX".to_owned(), "/x/busybox".to_owned());
        assert_eq!(shells(&[path]), "dash,bash,/x/busybox sh");
    }
}
