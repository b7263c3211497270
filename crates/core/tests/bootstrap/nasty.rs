//! Values that would be code anywhere else.

use std::process::Command;

use runner_manager_core::{BootConfig, Bootstrap};
use serde_json::json;

use crate::support::{files, full, parsed};

const NASTY: [&str; 12] = [
    "plain",
    "",
    "it's \"quoted\"",
    "$(touch /tmp/owned) `id` ${HOME}",
    "a\nb\n\nc",
    "trailing newline\n",
    "back\\slash \\n \\",
    "🦀 grüße \u{202e}",
    "- yaml: [1, &a *b] # no\t!!str | >",
    "%n %% #{x} {{ x }} <x> & ;|*?~!",
    "\u{1b}[31m\u{7f}\r\n",
    "'\"'\"'",
];

#[test]
fn nasty_values_arrive_intact_and_run_nothing() {
    let mut config = BootConfig::default();
    for (index, value) in NASTY.iter().enumerate() {
        config.env.insert(format!("V{index}"), (*value).to_owned());
    }
    let mut spec = full();
    spec.support.ssh_debug_connections[0].host = NASTY[3].into();
    let bootstrap = Bootstrap::new(&spec, &config).expect("a fit launch");
    let data = bootstrap.user_data(None).expect("user-data");
    let text = String::from_utf8(data.expose().to_vec()).expect("a text");
    let files = files(&text);

    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("environment.sh");
    std::fs::write(&script, &files["environment.sh"]).expect("a file");
    let mut shown = Command::new("bash");
    shown
        .args(["-c", ". \"$0\" && cat /proc/self/environ"])
        .arg(&script);
    let output = shown
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("bash");
    assert!(output.status.success(), "{output:?}");
    let environment = String::from_utf8(output.stdout).expect("UTF-8");
    for (index, value) in NASTY.iter().enumerate() {
        let wanted = format!("V{index}={value}");
        assert!(environment.split('\0').any(|e| e == wanted), "{wanted:?}");
        // The runner's own file has no line breaks within a value.
        let has = files["dotenv"].lines().any(|line| line == wanted);
        assert_eq!(has, !value.contains(['\n', '\r']), "{wanted:?}");
    }
    let host = format!("TMATE_SERVER_HOST={}", NASTY[3]);
    assert!(environment.split('\0').any(|e| e == host));
}

#[test]
fn a_script_of_the_pool_arrives_byte_by_byte() {
    let script = format!("#!/bin/sh\n{}", NASTY.join("\n"));
    let config: BootConfig =
        serde_json::from_value(json!({ "pre_job_script": script })).expect("a section");
    let spec = full();
    let bootstrap = Bootstrap::new(&spec, &config).expect("a fit launch");
    let data = bootstrap.user_data(None).expect("user-data");
    let text = String::from_utf8(data.expose().to_vec()).expect("a text");
    assert_eq!(files(&text)["custom-pre-job"], script);
    let run = &parsed(&text)["runcmd"];
    assert_eq!(
        run,
        &json!([["/bin/bash", "/opt/runner-manager/bootstrap.sh"]])
    );
}
