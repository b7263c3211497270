//! The `workflow_job` webhook: its signature, and what it says.

use hmac::{Hmac, KeyInit, Mac};
use runner_manager_core::{Error, ErrorKind, Result, Secret};
use serde::Deserialize;
use sha2::Sha256;

use crate::model::RemoteJob;
use crate::text::plain;
use crate::wire;

/// What GitHub tells of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEvent {
    /// The job as it then was; its status is the event's action.
    pub job: RemoteJob,
    /// GitHub's id of the runner that took it.
    pub runner_id: Option<u64>,
}

/// Whether the `x-hub-signature-256` header is a signature of this raw body by one of the
/// secrets: during a rotation there are two. Takes the same time wherever it differs.
#[must_use]
pub fn is_signed(secrets: &[Secret], header: &str, body: &[u8]) -> bool {
    let Some(signature) = header.strip_prefix("sha256=").and_then(unhex) else {
        return false;
    };
    secrets.iter().any(|secret| {
        // HMAC takes keys of any length.
        Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).is_ok_and(|mut mac| {
            mac.update(body);
            mac.verify_slice(&signature).is_ok()
        })
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| match pair {
            [high, low] => {
                let value = |digit: &u8| char::from(*digit).to_digit(16);
                u8::try_from(value(high)? * 16 + value(low)?).ok()
            }
            _ => None,
        })
        .collect()
}

#[derive(Deserialize)]
struct Payload {
    action: String,
    workflow_job: wire::Job,
    repository: Repository,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

/// Reads the body of a `workflow_job` delivery whose signature was checked. Of the job, its id and
/// its labels are enough. `None` for an action
/// that changes nothing for runners, such as `waiting`.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] for a body that is none.
pub fn workflow_job(body: &[u8]) -> Result<Option<JobEvent>> {
    let odd = |e: serde_json::Error| {
        let message = "the body is not that of a `workflow_job` event";
        Error::new(ErrorKind::InvalidRequest, message).with_source(e)
    };
    let payload: Payload = serde_json::from_slice(body).map_err(odd)?;
    if !matches!(
        payload.action.as_str(),
        "queued" | "in_progress" | "completed"
    ) {
        return Ok(None);
    }
    let Some((owner, repo)) = payload.repository.full_name.split_once('/') else {
        let message = "the repository's `full_name` is not `OWNER/NAME`";
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    };
    let runner_id = payload.workflow_job.runner_id();
    let job = payload
        .workflow_job
        .of(&plain(owner), &plain(repo), Some(&payload.action));
    let job = job.map_err(|_| {
        let message = "the job has no `id`, or `labels` that are no list of texts";
        Error::new(ErrorKind::InvalidRequest, message)
    })?;
    Ok(Some(JobEvent { job, runner_id }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_secrets_sign_and_nothing_else_does() {
        // The example of GitHub's documentation.
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let secret = || Secret::new("It's a Secret to Everybody");
        let body = b"Hello, World!";
        assert!(is_signed(&[secret()], right, body));
        assert!(is_signed(&[Secret::new("new"), secret()], right, body));
        assert!(!is_signed(&[Secret::new("new")], right, body));
        assert!(!is_signed(&[secret()], right, b"Hello, World?"));
        for header in ["", "sha256=", "sha256=7", &right[7..], &right[..69]] {
            assert!(!is_signed(&[secret()], header, body), "{header}");
        }
    }

    #[test]
    fn bodies_are_read_by_their_action() {
        let body = |action: &str, name: &str| {
            serde_json::json!({
                "action": action,
                "workflow_job": {
                    "id": 7, "run_id": 8, "name": "build", "labels": ["linux"],
                    "status": "queued", "conclusion": null, "runner_id": null,
                    "runner_name": null, "created_at": "2026-01-02T03:04:05Z",
                    "started_at": "2026-01-02T03:04:05Z", "completed_at": null,
                },
                "repository": { "full_name": name },
            })
            .to_string()
        };
        let event = workflow_job(body("in_progress", "octo/hello").as_bytes());
        let event = event.unwrap().unwrap();
        assert_eq!(event.job.status, "in_progress");
        assert_eq!(
            (event.job.owner.as_str(), event.job.repo.as_str()),
            ("octo", "hello")
        );
        assert_eq!(
            workflow_job(body("waiting", "octo/hello").as_bytes()).unwrap(),
            None
        );
        let least = |job: serde_json::Value| {
            let body = serde_json::json!({
                "action": "queued", "workflow_job": job, "repository": { "full_name": "octo/hello" },
            });
            workflow_job(body.to_string().as_bytes())
        };
        let odd = serde_json::json!({
            "id": 7, "labels": ["linux"], "name": null, "started_at": "", "runner_id": "x",
            "run_id": null, "completed_at": 5,
        });
        let event = least(odd).unwrap().unwrap();
        assert_eq!((event.job.id, event.job.status.as_str()), (7, "queued"));
        assert_eq!(
            (event.job.labels, event.runner_id),
            (vec!["linux".to_owned()], None)
        );
        assert!(least(serde_json::json!({ "labels": ["linux"] })).is_err());
        assert!(least(serde_json::json!({ "id": 7, "labels": [null] })).is_err());
        assert!(workflow_job(body("queued", "octo").as_bytes()).is_err());
        assert!(workflow_job(b"{}").is_err());
    }
}
