//! What a spot instance does about the notices that it is given.

use runner_manager_core::{BootConfig, ExtraPart, PartKind};

/// Watches the metadata service from the instance's first second.
const WATCHER: &str = include_str!("scripts/spot-watch.py");

/// The part of user-data that starts the watcher.
pub(crate) fn watcher(boot: &BootConfig) -> ExtraPart {
    // A JSON string of a checked path is a string of Python's too.
    let exchange = serde_json::Value::from(boot.exchange_folder()).to_string();
    ExtraPart {
        kind: PartKind::Boothook,
        content: WATCHER.replacen("\"@EXCHANGE@\"", &exchange, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watcher_knows_its_folder() {
        let part = watcher(&BootConfig::default());
        assert!(
            part.content.starts_with("#!/usr/bin/python3"),
            "{}",
            part.content
        );
        assert!(
            part.content.contains("\"/home/ubuntu/metrics-exchange\""),
            "{}",
            part.content
        );
        assert!(!part.content.contains("@EXCHANGE@"));
    }
}
