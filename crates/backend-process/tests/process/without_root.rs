//! The whole suite once more, as a user without rights.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::support::is_root;

#[test]
fn the_suite_passes_without_root() {
    if !is_root() {
        // Then every other test of this program is that proof already.
        assert!(!rustix::process::geteuid().is_root());
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let program = base.path().join("suite");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [base.path(), &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = Command::new("setpriv")
        .args(["--reuid=64999", "--regid=64999", "--clear-groups", "--"])
        .arg(&program)
        .args(["--test-threads=4", "--skip=without_root::"])
        .current_dir(base.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert!(
        text.contains("test result: ok") && !text.contains(" 0 passed"),
        "{text}"
    );
}
