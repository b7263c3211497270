//! What `cloud-init status` says.

use std::fmt;

/// The state of cloud-init on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudInitStatus {
    /// `not started` or `not run`.
    NotStarted,
    /// `running`.
    Running,
    /// `done`.
    Done,
    /// `error`.
    Error,
    /// `degraded`: done, with recoverable errors.
    Degraded,
    /// `disabled`.
    Disabled,
}

impl CloudInitStatus {
    /// Reads the output of `cloud-init status`, with or without `--long`: the line
    /// `status: WORDS`. Releases differ: `not run` and `not started` are the same, and 24.1 and
    /// later print `degraded done` in the extended line. `None` when there is no such line or
    /// its words are not known.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let line = output
            .lines()
            .find_map(|line| line.trim().strip_prefix("status:"))?;
        match line.trim() {
            "not started" | "not run" => Some(Self::NotStarted),
            "running" => Some(Self::Running),
            "done" => Some(Self::Done),
            "error" => Some(Self::Error),
            "degraded" | "degraded done" => Some(Self::Degraded),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }
}

impl fmt::Display for CloudInitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotStarted => "not started",
            Self::Running => "running",
            Self::Done => "done",
            Self::Error => "error",
            Self::Degraded => "degraded",
            Self::Disabled => "disabled",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_output_is_read() {
        let long = "status: error\nextended_status: error - done\nboot_status_code: enabled\n";
        assert_eq!(CloudInitStatus::parse(long), Some(CloudInitStatus::Error));
        assert_eq!(
            CloudInitStatus::parse("status: not started\n"),
            Some(CloudInitStatus::NotStarted)
        );
        assert_eq!(
            CloudInitStatus::parse("\n.....\nstatus: done\n"),
            Some(CloudInitStatus::Done)
        );
        assert_eq!(CloudInitStatus::parse("done"), None);
        assert_eq!(CloudInitStatus::parse("status: surprised"), None);
    }
}
