//! The mark that proves a thing to be a manager's.

use runner_manager_core::{NamePrefix, RunnerName};

/// The tag of everything, and the key of servers' and volumes' metadata, whose value is the
/// prefix.
pub(crate) const MARK: &str = "runner-manager";

/// The description of ports, floating addresses and security groups: the mark and the prefix.
pub(crate) fn description(prefix: &NamePrefix) -> String {
    format!("{MARK} {prefix}")
}

/// The comment of a runner's public key, which a cloud shows with the key pair.
pub(crate) fn comment(name: &RunnerName) -> String {
    format!("{MARK}:{name}")
}
