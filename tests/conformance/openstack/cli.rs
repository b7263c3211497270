//! OpenStack's own command line: the second opinion of the tests beside the suite.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// A path of the peer's environment.
pub(crate) fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    value
        .unwrap_or_else(|| {
            panic!("{name} is not set: `cargo xtask conformance openstack` starts the peer")
        })
        .into()
}

/// Runs a command as a user of the peer, and reads what it says in JSON.
pub(crate) fn openstack(cloud: &str, words: &[&str]) -> Value {
    let mut command = Command::new(variable("OPENSTACK_CLI"));
    command
        .args(words)
        .env("OS_CLIENT_CONFIG_FILE", variable("OPENSTACK_CLOUDS"))
        .env("OS_CLOUD", cloud);
    let output = command.output().expect("the peer has the client");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// What a list of the project holds, page by page where it is long.
pub(crate) fn listed(kind: &str) -> Vec<Value> {
    let mut words: Vec<&str> = kind.split(' ').collect();
    words.extend(["list", "-f", "json"]);
    if kind == "server" {
        words.extend(["--limit", "-1"]);
    }
    match openstack("demo", &words) {
        Value::Array(listed) => listed,
        other => panic!("{kind}: no list: {other}"),
    }
}
