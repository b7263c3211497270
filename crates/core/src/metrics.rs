//! What a runner leaves about its job: small untrusted files, read strictly.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ExchangeFile, GuestFile, RunnerName};

/// What is known of a runner when it is deleted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunnerMetrics {
    /// The runner.
    pub runner_name: RunnerName,
    /// When the instance was made.
    pub installation_start: Timestamp,
    /// When the runner on it was ready to register.
    pub installed_at: Option<Timestamp>,
    /// What it wrote before its job.
    pub pre_job: Option<PreJobMetrics>,
    /// What it wrote after its job.
    pub post_job: Option<PostJobMetrics>,
    /// Files that were not taken, and why.
    pub set_aside: Vec<SetAside>,
}

/// `pre-job-metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreJobMetrics {
    /// When the job began, in UNIX seconds.
    pub timestamp: f64,
    /// The workflow's name.
    pub workflow: String,
    /// The workflow run's id.
    pub workflow_run_id: String,
    /// `owner/repo`.
    pub repository: String,
    /// The event that triggered the workflow.
    pub event: String,
}

/// `post-job-metrics.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostJobMetrics {
    /// When the job ended, in UNIX seconds.
    pub timestamp: f64,
    /// How it ended.
    pub status: JobStatus,
    /// More about it.
    pub status_info: Option<StatusInfo>,
}

/// How a job ended, as far as the instance knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobStatus {
    /// The runner ended by itself.
    Normal,
    /// The runner ended with an error.
    Abnormal,
    /// The repository policy did not allow the job.
    RepoPolicyCheckFailure,
}

/// More about the end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusInfo {
    /// An exit code or an HTTP status.
    pub code: i64,
}

/// A file that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Its name.
    pub file: &'static str,
    /// Why.
    pub reason: String,
}

impl RunnerMetrics {
    /// Metrics of a runner of which nothing is read yet.
    #[must_use]
    pub fn new(runner_name: RunnerName, installation_start: Timestamp) -> Self {
        Self {
            runner_name,
            installation_start,
            installed_at: None,
            pre_job: None,
            post_job: None,
            set_aside: Vec::new(),
        }
    }

    /// Takes one file, or sets it aside with a reason. Nothing of a bad file is interpreted.
    pub fn take(&mut self, file: ExchangeFile, content: GuestFile) {
        let outcome = match content {
            GuestFile::Absent => Ok(()),
            GuestFile::Refused(reason) => Err(reason),
            GuestFile::Bytes(bytes) if bytes.len() > ExchangeFile::MAX_BYTES => {
                Err(format!("is larger than {} bytes", ExchangeFile::MAX_BYTES))
            }
            GuestFile::Bytes(bytes) => self.parse(file, &bytes),
        };
        if let Err(reason) = outcome {
            self.set_aside.push(SetAside {
                file: file.file_name(),
                reason,
            });
        }
    }

    fn parse(&mut self, file: ExchangeFile, bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        match file {
            ExchangeFile::Installed => {
                let seconds = text
                    .trim()
                    .parse()
                    .map_err(|_| "is not a number of seconds".to_owned())?;
                self.installed_at = Some(instant(seconds)?);
            }
            ExchangeFile::PreJob => {
                let found: PreJobMetrics = serde_json::from_str(text).map_err(|e| e.to_string())?;
                instant(found.timestamp)?;
                plain(&found.workflow)?;
                plain(&found.event)?;
                if !found.workflow_run_id.bytes().all(|b| b.is_ascii_digit()) {
                    return Err("workflow_run_id is not a number".into());
                }
                let (owner, name) = found
                    .repository
                    .split_once('/')
                    .ok_or_else(|| "repository is not `owner/repo`".to_owned())?;
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                if owner.is_empty()
                    || name.is_empty()
                    || !owner.chars().chain(name.chars()).all(allowed)
                {
                    return Err("repository is not `owner/repo`".into());
                }
                self.pre_job = Some(found);
            }
            ExchangeFile::PostJob => {
                let found: PostJobMetrics =
                    serde_json::from_str(text).map_err(|e| e.to_string())?;
                instant(found.timestamp)?;
                self.post_job = Some(found);
            }
        }
        Ok(())
    }
}

/// UNIX seconds as an instant, between 2000 and 2100: anything else is nonsense or malice.
fn instant(seconds: f64) -> Result<Timestamp, String> {
    if !(946_684_800.0..4_102_444_800.0).contains(&seconds) {
        return Err(format!("time {seconds} is out of range"));
    }
    let since = std::time::Duration::from_secs_f64(seconds);
    Timestamp::UNIX_EPOCH
        .checked_add(since)
        .map_err(|e| e.to_string())
}

fn plain(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        Err("holds control characters".into())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InstanceId, NamePrefix};

    fn empty() -> RunnerMetrics {
        let name = NamePrefix::new("app")
            .unwrap()
            .runner_name(&InstanceId::random());
        RunnerMetrics::new(name, Timestamp::UNIX_EPOCH)
    }

    fn taken(file: ExchangeFile, text: &str) -> RunnerMetrics {
        let mut metrics = empty();
        metrics.take(file, GuestFile::Bytes(text.into()));
        metrics
    }

    #[test]
    fn good_files_are_taken() {
        let pre = r#"{"timestamp":1700000000.5,"workflow":"CI","workflow_run_id":"17","repository":"octo/hello","event":"push"}"#;
        assert_eq!(
            taken(ExchangeFile::PreJob, pre).pre_job.unwrap().repository,
            "octo/hello"
        );
        let post = r#"{"timestamp":1700000001,"status":"repo-policy-check-failure","status_info":{"code":403}}"#;
        let post = taken(ExchangeFile::PostJob, post).post_job.unwrap();
        assert_eq!(post.status, JobStatus::RepoPolicyCheckFailure);
        assert_eq!(post.status_info.unwrap().code, 403);
        let installed = taken(ExchangeFile::Installed, "1700000000.25\n")
            .installed_at
            .unwrap();
        assert_eq!(installed.as_millisecond(), 1_700_000_000_250);
    }

    #[test]
    fn bad_files_are_set_aside_with_a_reason() {
        let big = format!("{}{}", " ".repeat(1024), "1700000000");
        for (file, text) in [
            (ExchangeFile::Installed, "soon"),
            (ExchangeFile::Installed, "nan"),
            (ExchangeFile::Installed, "-1"),
            (ExchangeFile::Installed, "1e300"),
            (ExchangeFile::Installed, big.as_str()),
            (ExchangeFile::PreJob, "{"),
            (
                ExchangeFile::PreJob,
                r#"{"timestamp":1700000000,"workflow":"a\nb","workflow_run_id":"1","repository":"o/r","event":"push"}"#,
            ),
            (
                ExchangeFile::PreJob,
                r#"{"timestamp":1700000000,"workflow":"a","workflow_run_id":"1;id","repository":"o/r","event":"push"}"#,
            ),
            (
                ExchangeFile::PreJob,
                r#"{"timestamp":1700000000,"workflow":"a","workflow_run_id":"1","repository":"../r/x","event":"push"}"#,
            ),
            (
                ExchangeFile::PostJob,
                r#"{"timestamp":1700000000,"status":"great"}"#,
            ),
            (
                ExchangeFile::PostJob,
                r#"{"timestamp":1700000000,"status":"normal","extra":1}"#,
            ),
        ] {
            let metrics = taken(file, text);
            assert_eq!(metrics.set_aside.len(), 1, "{text:?} was taken");
            assert!(!metrics.set_aside[0].reason.is_empty());
        }
    }
}
