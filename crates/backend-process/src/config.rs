//! The section `[pool.process]`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use runner_manager_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;

/// The section `[pool.process]` of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessConfig {
    /// The folder that holds one folder per runner. It is made when absent. As root, every
    /// parent of it must let other users pass.
    pub work_dir: PathBuf,
    /// An unpacked `actions-runner` folder. Give this or `runner_tarball`.
    pub runner_dir: Option<PathBuf>,
    /// The `actions-runner` archive (`.tar.gz`), unpacked once and shared. Needs
    /// `runner_sha256`.
    pub runner_tarball: Option<PathBuf>,
    /// The SHA-256 of `runner_tarball`, in 64 hexadecimal digits.
    pub runner_sha256: Option<String>,
    /// Limits of each runner. They need root and the controllers of cgroup v2.
    #[serde(default)]
    pub limits: Limits,
    /// The first user id given to runners (root only). Default: 70000.
    #[serde(default = "default_first_uid")]
    pub first_uid: u32,
    /// How many user ids there are, and so how many runners (root only). Default: 1000.
    #[serde(default = "default_uid_count")]
    pub uid_count: u32,
    /// No runner is launched with less free disk space than this, in bytes. Default: 1 GiB.
    #[serde(default = "default_min_free_bytes")]
    pub min_free_bytes: u64,
    /// The most disk space one runner may use, in bytes; one that uses more counts as failed.
    /// Default: no limit.
    pub max_disk_bytes: Option<u64>,
    /// What is kept of failed runners.
    #[serde(default)]
    pub failed_logs: FailedLogs,
    /// Environment variables of the runner. Nothing is inherited from the manager.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Limits of each runner.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// CPU time, in cores; 0.5 is half a core.
    pub cpu_cores: Option<f64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
}

/// What is kept of failed runners, in `{work_dir}/failed`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FailedLogs {
    /// How many logs; 0 keeps none. Default: 50.
    #[serde(default = "default_failed_count")]
    pub count: usize,
    /// How many bytes of the end of each log. Default: 64 KiB.
    #[serde(default = "default_failed_bytes")]
    pub bytes: u32,
}

impl Default for FailedLogs {
    fn default() -> Self {
        Self {
            count: default_failed_count(),
            bytes: default_failed_bytes(),
        }
    }
}

fn default_first_uid() -> u32 {
    70_000
}

fn default_uid_count() -> u32 {
    1_000
}

fn default_min_free_bytes() -> u64 {
    1 << 30
}

fn default_failed_count() -> usize {
    50
}

fn default_failed_bytes() -> u32 {
    64 * 1024
}

/// Where the runner program comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Folder(PathBuf),
    Tarball { path: PathBuf, sha256: String },
}

impl Limits {
    /// The CPU quota per period of 100 ms, in microseconds.
    pub(crate) fn cpu_quota_micros(&self) -> Option<u128> {
        self.cpu_cores
            .map(|cores| Duration::from_secs_f64(cores * 0.1).as_micros())
    }
}

fn invalid(key: &str, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message).with_context("key", key)
}

impl ProcessConfig {
    /// Checks what serde cannot, and says where the runner program comes from.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], with the key.
    pub(crate) fn validate(&self) -> Result<Source> {
        if self.work_dir.as_os_str().is_empty() {
            return Err(invalid("work_dir", "is empty; give an absolute path"));
        }
        self.validate_numbers()?;
        for (name, value) in &self.env {
            validate_variable(name, value)?;
        }
        self.source()
    }

    fn source(&self) -> Result<Source> {
        match (&self.runner_dir, &self.runner_tarball, &self.runner_sha256) {
            (Some(folder), None, None) => Ok(Source::Folder(folder.clone())),
            (None, Some(path), Some(sha256)) => {
                let sha256 = sha256.to_ascii_lowercase();
                if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
                    let message = "is not a SHA-256; give 64 hexadecimal digits";
                    return Err(invalid("runner_sha256", message));
                }
                Ok(Source::Tarball {
                    path: path.clone(),
                    sha256,
                })
            }
            (None, Some(_), None) => Err(invalid(
                "runner_sha256",
                "is missing; a tarball is only unpacked when its SHA-256 is known",
            )),
            (_, None, Some(_)) => Err(invalid(
                "runner_sha256",
                "belongs to `runner_tarball`, which is not set",
            )),
            (Some(_), Some(_), _) => Err(invalid(
                "runner_dir",
                "is set together with `runner_tarball`; keep one of the two",
            )),
            (None, None, None) => Err(invalid(
                "runner_dir",
                "is missing; set it, or `runner_tarball` with `runner_sha256`",
            )),
        }
    }

    fn validate_numbers(&self) -> Result<()> {
        if self.first_uid < 1_000 {
            return Err(invalid("first_uid", "is below 1000, among system users"));
        }
        // The last two ids mean "nobody" to the kernel and "no change" to its calls.
        let last = u64::from(self.first_uid) + u64::from(self.uid_count);
        if self.uid_count == 0 || last > u64::from(u32::MAX - 2) {
            return Err(invalid("uid_count", "is zero, or leads past the last user"));
        }
        if self
            .limits
            .memory_bytes
            .is_some_and(|bytes| bytes < 1 << 20)
        {
            return Err(invalid("limits.memory_bytes", "is below 1 MiB"));
        }
        if self.limits.tasks.is_some_and(|tasks| tasks < 8) {
            return Err(invalid("limits.tasks", "is below 8, too few for a runner"));
        }
        match self.limits.cpu_cores {
            Some(cores) if !(0.01..=4096.0).contains(&cores) => {
                Err(invalid("limits.cpu_cores", "is not between 0.01 and 4096"))
            }
            _ => Ok(()),
        }
    }
}

/// Variables that the backend sets itself, or that would change the programs that it runs
/// before it gives up root.
fn validate_variable(name: &str, value: &str) -> Result<()> {
    let key = format!("env.{name}");
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if name.is_empty() || !plain || name.starts_with(|c: char| c.is_ascii_digit()) {
        let message = "is no name of a variable; use letters, digits and `_`";
        return Err(invalid(&key, message));
    }
    let reserved = ["HOME", "USER", "LOGNAME", "IFS", "ENV", "BASH_ENV"].contains(&name)
        || name == "ACTIONS_RUNNER_HOOK_JOB_STARTED"
        || ["LD_", "RUNNER_MANAGER_", "ACTIONS_RUNNER_INPUT_"]
            .iter()
            .any(|start| name.starts_with(start));
    if reserved {
        return Err(invalid(&key, "is set by the backend; leave it out"));
    }
    if value.contains('\0') {
        return Err(invalid(&key, "holds a NUL byte"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_manager_core::parse_section;
    use serde_json::json;

    fn parse(section: serde_json::Value) -> Result<(ProcessConfig, Source)> {
        let config: ProcessConfig = parse_section(section)?;
        let source = config.validate()?;
        Ok((config, source))
    }

    #[test]
    fn a_small_section_is_enough() {
        let (config, source) = parse(json!({"work_dir": "/w", "runner_dir": "/r"})).unwrap();
        assert_eq!(source, Source::Folder("/r".into()));
        assert_eq!((config.first_uid, config.uid_count), (70_000, 1_000));
        assert_eq!(config.failed_logs.count, 50);
    }

    #[test]
    fn wrong_sections_name_the_key() {
        let sha = "a".repeat(64);
        for (section, key) in [
            (json!({"work_dir": "", "runner_dir": "/r"}), "work_dir"),
            (json!({"work_dir": "/w"}), "runner_dir"),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "runner_tarball": "/t", "runner_sha256": sha}),
                "runner_dir",
            ),
            (
                json!({"work_dir": "/w", "runner_tarball": "/t"}),
                "runner_sha256",
            ),
            (
                json!({"work_dir": "/w", "runner_tarball": "/t", "runner_sha256": "zz"}),
                "runner_sha256",
            ),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "uid_count": 0}),
                "uid_count",
            ),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "first_uid": 0}),
                "first_uid",
            ),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "limits": {"cpu_cores": -1.0}}),
                "limits.cpu_cores",
            ),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "limits": {"tasks": 1}}),
                "limits.tasks",
            ),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "limits": {"cpus": 1}}),
                "limits.cpus",
            ),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "env": {"A B": "x"}}),
                "env.A B",
            ),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "env": {"LD_PRELOAD": "x"}}),
                "env.LD_PRELOAD",
            ),
            (
                json!({"work_dir": "/w", "runner_dir": "/r", "env": {"A": "x\0"}}),
                "env.A",
            ),
        ] {
            let error = parse(section).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert_eq!(error.context("key"), Some(key), "{error}");
        }
    }

    #[test]
    fn half_a_core_is_half_a_period() {
        let limits = Limits {
            cpu_cores: Some(0.5),
            ..Limits::default()
        };
        assert_eq!(limits.cpu_quota_micros(), Some(50_000));
    }
}
