//! The program as a newcomer starts it.

use std::process::Command;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_runner-manager"))
}

#[test]
fn the_demo_runs_all_jobs_and_leaves_nothing() {
    let output = program()
        .args(["demo", "--jobs", "20", "--json"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&errors);
    assert!(output.status.success(), "{report:#}\n{errors}");
    assert_eq!(report["orphans"], 0);
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!(
        count("jobs_completed") + count("jobs_failed") + count("jobs_cancelled"),
        20
    );
    assert_eq!(count("jobs_cancelled"), 1);
    assert!(count("runners_created") >= 19);
}

#[test]
fn a_wrong_configuration_is_refused_with_line_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, "[manager]\nstate_dir = \"x\"\nstatedir = 1\n").unwrap();
    let output = program()
        .arg("check")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("line 3") && told.contains("statedir"),
        "{told}"
    );
}
