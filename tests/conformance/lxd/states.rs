//! Native states, as the proxy shows them.

use std::collections::HashMap;

use runner_manager_core::CloudRunnerState;
use serde_json::{Value, json};

use CloudRunnerState as S;

/// An instance that was never started says `Stopped` too.
const NEVER_STARTED: &str = "Stopped, never started";

/// The backend's table, once more.
pub(crate) fn all() -> Vec<(&'static str, CloudRunnerState)> {
    vec![
        ("Operation created", S::Created),
        ("Pending", S::Created),
        ("Starting", S::Created),
        (NEVER_STARTED, S::Created),
        ("Started", S::Active),
        ("Running", S::Active),
        ("Ready", S::Active),
        ("Thawed", S::Active),
        ("Stopped", S::Stopped),
        ("Stopping", S::Stopped),
        ("Aborting", S::Stopped),
        ("Freezing", S::Stopped),
        ("Frozen", S::Stopped),
        ("Error", S::Error),
        ("Melting", S::Unexpected("Melting".into())),
    ]
}

/// Shows an instance in the state that it is forced into.
pub(crate) fn rewrite(instance: &mut Value, forced: &HashMap<String, &'static str>) {
    let name = instance["name"].as_str().unwrap_or_default();
    let Some(native) = forced.get(name) else {
        return;
    };
    instance["status"] = json!(native.split(',').next().unwrap_or_default());
    if *native == NEVER_STARTED {
        instance["last_used_at"] = json!("1970-01-01T00:00:00Z");
        if let Some(config) = instance["config"].as_object_mut() {
            config.remove("volatile.last_state.power");
        }
    }
}
