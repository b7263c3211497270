//! EC2's instance states, mapped.

use runner_manager_core::CloudRunnerState;

/// The contract's state for EC2's word
/// (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html>).
pub(crate) fn map(native: &str) -> CloudRunnerState {
    match native {
        "pending" => CloudRunnerState::Created,
        "running" => CloudRunnerState::Active,
        "stopping" | "stopped" => CloudRunnerState::Stopped,
        "shutting-down" | "terminated" => CloudRunnerState::Deleted,
        other => CloudRunnerState::Unexpected(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::InstanceStateName;

    use super::*;

    #[test]
    fn every_state_that_the_sdk_knows_is_mapped() {
        for native in InstanceStateName::values() {
            let mapped = map(native);
            assert!(
                !matches!(mapped, CloudRunnerState::Unexpected(_)),
                "{native}"
            );
        }
        let other = map("hibernating");
        assert_eq!(other, CloudRunnerState::Unexpected("hibernating".into()));
    }
}
