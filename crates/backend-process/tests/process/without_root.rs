//! The whole suite once more with less: without root, and as root without cgroups.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::is_root;

/// Runs this program again, all but this module, behind another command.
fn run_again(command: &[&str]) {
    let base = tempfile::tempdir().unwrap();
    let program = base.path().join("suite");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [base.path(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = Command::new(command[0])
        .args(&command[1..])
        .arg(&program)
        .args(["--test-threads=4", "--skip=without_root::"])
        .current_dir(base.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{text}\n{errors}");
    let passed = text.contains("test result: ok") && !text.contains(" 0 passed");
    assert!(passed, "{text}");
}

#[test]
fn the_suite_passes_without_root() {
    if is_root() {
        run_again(&[
            "setpriv",
            "--reuid=64999",
            "--regid=64999",
            "--clear-groups",
        ]);
    } else {
        // Then every other test of this program is that proof already.
        assert!(!rustix::process::geteuid().is_root());
    }
}

#[test]
fn the_suite_passes_as_root_without_cgroups() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(4));
    match mount {
        Some(mount) if is_root() => {
            let script = "umount -l \"$0\" && exec \"$@\"";
            run_again(&["unshare", "--mount", "sh", "-c", script, mount]);
        }
        // Then every other test of this program ran without cgroups already.
        _ => assert!(mount.is_none() || !is_root()),
    }
}
