//! What the kernel answers: the table of native states, and the map of its errors.

use std::io;
use std::path::Path;
use std::time::Duration;

use runner_manager_core::{CloudRunnerState, Error, ErrorKind, Retry};

use crate::record::Phase;

/// The state of a runner's process and folder, in this backend's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Native {
    /// A launch is under way.
    Preparing,
    /// A launch ended before the runner was started.
    Abandoned,
    /// The main process lives.
    Running,
    /// It lives and uses more disk space than it may.
    OverDisk,
    /// It ended and left an exit code, or the manager stopped it.
    Exited,
    /// It is gone and left no exit code.
    Vanished,
    /// The machine was started anew since.
    Rebooted,
}

impl Native {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 7] = [
        Self::Preparing,
        Self::Abandoned,
        Self::Running,
        Self::OverDisk,
        Self::Exited,
        Self::Vanished,
        Self::Rebooted,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Abandoned => "abandoned",
            Self::Running => "running",
            Self::OverDisk => "over disk",
            Self::Exited => "exited",
            Self::Vanished => "vanished",
            Self::Rebooted => "rebooted",
        }
    }

    /// The one table from native to contract states.
    pub(crate) fn state(self) -> CloudRunnerState {
        match self {
            Self::Preparing => CloudRunnerState::Created,
            Self::Running => CloudRunnerState::Active,
            Self::Exited => CloudRunnerState::Stopped,
            Self::Abandoned | Self::OverDisk | Self::Vanished | Self::Rebooted => {
                CloudRunnerState::Error
            }
        }
    }
}

/// What was seen of one runner.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    pub(crate) phase: Phase,
    /// The machine has not been started anew since.
    pub(crate) same_boot: bool,
    /// The main process, known by pid and start time, lives.
    pub(crate) alive: bool,
    /// Some task holds the runner's lock.
    pub(crate) locked: bool,
    /// The launcher heard `go`.
    pub(crate) started: bool,
    pub(crate) exit_code: Option<i32>,
    pub(crate) over_disk: bool,
}

impl Sight {
    pub(crate) fn native(self) -> Native {
        if !self.same_boot {
            return Native::Rebooted;
        }
        if self.alive {
            // Not started yet, and nobody is about to start it: the launcher has heard `go`
            // and not said so yet, or it is about to end.
            return match (self.started, self.over_disk) {
                (false, _) if self.locked => Native::Preparing,
                (_, true) => Native::OverDisk,
                (_, false) => Native::Running,
            };
        }
        match (self.phase, self.started, self.exit_code) {
            (Phase::Stopped, _, _) | (Phase::Running, true, Some(_)) => Native::Exited,
            (Phase::Running, true, None) => Native::Vanished,
            _ if self.locked => Native::Preparing,
            _ => Native::Abandoned,
        }
    }
}

/// An error of a file operation. `action` fits after "cannot".
pub(crate) fn file_error(action: &str, path: &Path, error: impl Into<io::Error>) -> Error {
    let error = error.into();
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::PermissionDenied
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoCapacity,
        _ => ErrorKind::Local,
    };
    let retry = match kind {
        ErrorKind::NoCapacity => Retry::After(Duration::from_secs(60)),
        _ => Retry::Never,
    };
    Error::new(kind, format!("cannot {action}"))
        .with_retry(retry)
        .with_context("path", path.display())
        .with_source(error)
}

/// An error of a wait that took too long.
pub(crate) fn late(what: &str) -> Error {
    Error::new(ErrorKind::TimedOut, what).with_retry(Retry::After(Duration::from_secs(5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_native_state_is_mapped() {
        let table: Vec<(&str, String)> = Native::ALL
            .iter()
            .map(|native| (native.as_str(), native.state().to_string()))
            .collect();
        let want = [
            ("preparing", "created"),
            ("abandoned", "error"),
            ("running", "active"),
            ("over disk", "error"),
            ("exited", "stopped"),
            ("vanished", "error"),
            ("rebooted", "error"),
        ];
        assert_eq!(
            table,
            want.map(|(native, state)| (native, state.to_owned()))
        );
    }

    #[test]
    fn sights_are_judged() {
        let alive = Sight {
            phase: Phase::Running,
            same_boot: true,
            alive: true,
            locked: false,
            started: true,
            exit_code: None,
            over_disk: false,
        };
        let dead = Sight {
            alive: false,
            ..alive
        };
        let unstarted = Sight {
            started: false,
            ..dead
        };
        for (sight, native) in [
            (alive, Native::Running),
            (
                Sight {
                    over_disk: true,
                    ..alive
                },
                Native::OverDisk,
            ),
            (
                Sight {
                    started: false,
                    locked: true,
                    ..alive
                },
                Native::Preparing,
            ),
            (
                Sight {
                    started: false,
                    ..alive
                },
                Native::Running,
            ),
            (
                Sight {
                    same_boot: false,
                    ..alive
                },
                Native::Rebooted,
            ),
            (dead, Native::Vanished),
            (
                Sight {
                    exit_code: Some(0),
                    ..dead
                },
                Native::Exited,
            ),
            (
                Sight {
                    phase: Phase::Stopped,
                    ..dead
                },
                Native::Exited,
            ),
            (unstarted, Native::Abandoned),
            (
                Sight {
                    locked: true,
                    ..unstarted
                },
                Native::Preparing,
            ),
            (
                Sight {
                    phase: Phase::Preparing,
                    ..dead
                },
                Native::Abandoned,
            ),
        ] {
            assert_eq!(sight.native(), native, "{sight:?}");
        }
    }

    #[test]
    fn kernel_errors_say_what_a_caller_can_do() {
        let kind = |errno: rustix::io::Errno| file_error("x", Path::new("/p"), errno).kind();
        assert_eq!(kind(rustix::io::Errno::ACCESS), ErrorKind::PermissionDenied);
        assert_eq!(kind(rustix::io::Errno::ROFS), ErrorKind::PermissionDenied);
        assert_eq!(kind(rustix::io::Errno::NOSPC), ErrorKind::NoCapacity);
        assert_eq!(kind(rustix::io::Errno::DQUOT), ErrorKind::NoCapacity);
        assert_eq!(kind(rustix::io::Errno::IO), ErrorKind::Local);
    }
}
