//! The shapes of the Actions service. What is not read is skipped.

use jiff::Timestamp;
use runner_manager_core::{Label, Secret};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::lenient::{Maybe, Texts};
use crate::text::plain;

use super::model::{
    ScaleSet, ScaleSetJob, ScaleSetJobState, ScaleSetMessage, ScaleSetRunner, ScaleSetSpec,
    Statistics,
};

/// The only type of message that the protocol has.
const JOB_MESSAGES: &str = "RunnerScaleSetJobMessages";

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

/// An absent field and `null` are both the default.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// The answer to a registration: the service's address and the token for it.
#[derive(Deserialize)]
pub(super) struct Connection {
    pub(super) url: String,
    #[serde(deserialize_with = "secret")]
    pub(super) token: Secret,
}

#[derive(Deserialize)]
pub(super) struct List<T> {
    #[serde(default = "Vec::new")]
    pub(super) value: Vec<T>,
}

#[derive(Deserialize)]
pub(super) struct Group {
    pub(super) id: u64,
    pub(super) name: String,
}

#[derive(Deserialize)]
struct SetLabel {
    name: String,
}

#[derive(Deserialize)]
pub(super) struct Set {
    pub(super) id: u64,
    pub(super) name: String,
    #[serde(default, deserialize_with = "lenient")]
    labels: Vec<SetLabel>,
    #[serde(default)]
    pub(super) statistics: Option<Statistics>,
}

impl From<Set> for ScaleSet {
    fn from(set: Set) -> Self {
        Self {
            id: set.id,
            name: set.name,
            labels: set.labels.into_iter().map(|label| label.name).collect(),
        }
    }
}

/// The body that makes or changes a scale set.
pub(super) fn set_body(group: u64, spec: &ScaleSetSpec) -> Value {
    let label = |label: &Label| json!({ "type": "System", "name": label.as_str() });
    json!({
        "name": spec.name,
        "runnerGroupId": group,
        "labels": spec.labels.iter().map(label).collect::<Vec<_>>(),
        "RunnerSetting": { "ephemeral": true, "disableUpdate": false },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Agent {
    pub(super) id: u64,
    pub(super) name: String,
    #[serde(default)]
    runner_scale_set_id: Option<u64>,
}

impl From<Agent> for ScaleSetRunner {
    fn from(agent: Agent) -> Self {
        Self {
            id: agent.id,
            name: agent.name,
            scale_set: agent.runner_scale_set_id,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Jit {
    pub(super) runner: Agent,
    #[serde(rename = "encodedJITConfig", deserialize_with = "secret")]
    pub(super) config: Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    pub(super) session_id: String,
    pub(super) message_queue_url: String,
    #[serde(deserialize_with = "secret")]
    pub(super) message_queue_access_token: Secret,
    #[serde(default)]
    pub(super) statistics: Option<Statistics>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    message_id: u64,
    #[serde(default, deserialize_with = "lenient")]
    message_type: String,
    #[serde(default, deserialize_with = "lenient")]
    body: String,
    #[serde(default)]
    statistics: Option<Statistics>,
}

impl Message {
    /// What the message says. A part that cannot be read is left out: the statistics are what
    /// counts, and one odd message must not hold up the queue for ever.
    pub(super) fn read(self) -> ScaleSetMessage {
        let mut jobs = Vec::new();
        if self.message_type == JOB_MESSAGES {
            let items: Vec<Value> = match self.body.as_str() {
                "" => Vec::new(),
                body => serde_json::from_str(body).unwrap_or_else(|error| {
                    tracing::warn!(message = self.message_id, %error, "a message of a scale set holds no list");
                    Vec::new()
                }),
            };
            for item in items {
                match serde_json::from_value::<Item>(item) {
                    Ok(item) => jobs.extend(item.read()),
                    Err(error) => {
                        tracing::warn!(message = self.message_id, %error, "a scale set tells something that cannot be read");
                    }
                }
            }
        } else {
            tracing::warn!(
                message = self.message_id,
                kind = self.message_type,
                "a scale set sends messages of an unknown type"
            );
        }
        ScaleSetMessage {
            id: self.message_id,
            statistics: self.statistics,
            jobs,
        }
    }
}

/// A job in the list of those that can be acquired.
#[derive(Deserialize)]
pub(super) struct Offer {
    #[serde(rename = "runnerRequestId")]
    pub(super) request_id: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    message_type: String,
    #[serde(default)]
    runner_request_id: Maybe<u64>,
    #[serde(default)]
    repository_name: Maybe<String>,
    #[serde(default)]
    owner_name: Maybe<String>,
    #[serde(default)]
    job_id: Maybe<String>,
    #[serde(default)]
    job_display_name: Maybe<String>,
    #[serde(default)]
    workflow_run_id: Maybe<u64>,
    #[serde(default)]
    request_labels: Texts,
    #[serde(default)]
    queue_time: Maybe<Timestamp>,
    #[serde(default)]
    runner_assign_time: Maybe<Timestamp>,
    #[serde(default)]
    finish_time: Maybe<Timestamp>,
    #[serde(default)]
    runner_id: Maybe<u64>,
    #[serde(default)]
    runner_name: Maybe<String>,
    #[serde(default)]
    result: Maybe<String>,
}

impl Item {
    fn read(self) -> Option<ScaleSetJob> {
        let state = match self.message_type.as_str() {
            "JobAvailable" => ScaleSetJobState::Available,
            "JobAssigned" => ScaleSetJobState::Assigned,
            "JobStarted" => ScaleSetJobState::Started,
            "JobCompleted" => ScaleSetJobState::Completed,
            _ => return None,
        };
        // The service writes "never" as the year 1.
        let real = |at: Maybe<Timestamp>| at.0.filter(|at| *at > Timestamp::UNIX_EPOCH);
        let text = |text: Maybe<String>| text.0.as_deref().map(plain).unwrap_or_default();
        let labels = self.request_labels.0.unwrap_or_default();
        Some(ScaleSetJob {
            state,
            request_id: self.runner_request_id.0.unwrap_or(0),
            job_id: text(self.job_id),
            name: text(self.job_display_name),
            owner: text(self.owner_name),
            repository: text(self.repository_name),
            run_id: self.workflow_run_id.0.unwrap_or(0),
            labels: labels.iter().map(|label| plain(label)).collect(),
            queued_at: real(self.queue_time),
            started_at: real(self.runner_assign_time),
            completed_at: real(self.finish_time),
            runner_id: self.runner_id.0.filter(|id| *id != 0),
            runner_name: Some(text(self.runner_name)).filter(|name| !name.is_empty()),
            result: Some(text(self.result)).filter(|result| !result.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of the public client's types, with a value that is its own.
    const ITEM: &str = r#"{"messageType":"JobCompleted","runnerRequestId":4242,
        "repositoryName":"hello","ownerName":"octo","jobId":"77",
        "jobWorkflowRef":"octo/hello/.github/workflows/ci.yml@refs/heads/main",
        "jobDisplayName":"build","workflowRunId":88,"eventName":"push","requestLabels":["big"],
        "queueTime":"2026-01-02T03:04:05.1234567Z","scaleSetAssignTime":"2026-01-02T03:04:06Z",
        "runnerAssignTime":"2026-01-02T03:04:07Z","finishTime":"2026-01-02T03:04:08Z",
        "acquireJobUrl":"https://x.example/a","result":"succeeded","runnerId":9,
        "runnerName":"app-1"}"#;

    fn message(body: &str, kind: &str) -> ScaleSetMessage {
        let text = json!({ "messageId": 9, "messageType": kind, "body": body, "statistics": {
            "totalAvailableJobs": 1, "totalAcquiredJobs": 2, "totalAssignedJobs": 3,
            "totalRunningJobs": 4, "totalRegisteredRunners": 5, "totalBusyRunners": 6,
            "totalIdleRunners": 7 } });
        serde_json::from_value::<Message>(text).unwrap().read()
    }

    #[test]
    fn every_field_of_a_message_is_read_from_its_name() {
        let told = message(&format!("[{ITEM}]"), JOB_MESSAGES);
        let all = Statistics {
            total_available_jobs: 1,
            total_acquired_jobs: 2,
            total_assigned_jobs: 3,
            total_running_jobs: 4,
            total_registered_runners: 5,
            total_busy_runners: 6,
            total_idle_runners: 7,
        };
        assert_eq!((told.id, told.statistics), (9, Some(all)));
        let job = &told.jobs[0];
        assert_eq!(job.state, ScaleSetJobState::Completed);
        assert_eq!(
            (job.request_id, job.run_id, job.runner_id),
            (4242, 88, Some(9))
        );
        for (read, wanted) in [
            (&job.job_id, "77"),
            (&job.name, "build"),
            (&job.owner, "octo"),
            (&job.repository, "hello"),
            (&job.labels[0], "big"),
            (job.runner_name.as_ref().unwrap(), "app-1"),
            (job.result.as_ref().unwrap(), "succeeded"),
        ] {
            assert_eq!(read, wanted);
        }
        let times = [job.queued_at, job.started_at, job.completed_at];
        let seconds = times.map(|at| at.unwrap().as_second() - 1_767_323_045);
        assert_eq!(seconds, [0, 2, 3]);
    }

    #[test]
    fn what_cannot_be_read_holds_nothing_up() {
        let zero = r#"{"messageType":"JobAssigned","runnerRequestId":1,"jobId":"x",
            "requestLabels":null,"queueTime":"0001-01-01T00:00:00Z","runnerId":0}"#;
        let told = message(
            &format!(r#"[{zero},{{"messageType":"New"}},7]"#),
            JOB_MESSAGES,
        );
        assert_eq!(told.jobs.len(), 1);
        let job = &told.jobs[0];
        assert_eq!((job.queued_at, job.runner_id), (None, None));
        for (body, kind) in [("", JOB_MESSAGES), ("{", JOB_MESSAGES), (ITEM, "Other")] {
            assert!(message(body, kind).jobs.is_empty(), "{body}");
        }
        let bare = r#"{"messageId":1,"messageType":"RunnerScaleSetJobMessages","body":null,"statistics":null}"#;
        let bare = serde_json::from_str::<Message>(bare).unwrap().read();
        assert_eq!((bare.statistics, bare.jobs.len()), (None, 0));
    }

    #[test]
    fn a_set_is_asked_for_in_the_public_clients_shape() {
        let labels = runner_manager_core::Labels::new(vec![Label::new("big").unwrap()]).unwrap();
        let spec = ScaleSetSpec {
            name: "set".into(),
            labels,
        };
        assert_eq!(
            set_body(3, &spec),
            json!({ "name": "set", "runnerGroupId": 3,
                "labels": [{ "type": "System", "name": "big" }],
                "RunnerSetting": { "ephemeral": true, "disableUpdate": false } })
        );
        let answer = json!({ "id": 1, "name": "set", "runnerGroupId": 3, "runnerGroupName": "g",
            "labels": [{ "type": "System", "name": "big" }], "RunnerSetting": {},
            "createdOn": "2026-01-01T00:00:00Z", "runnerJitConfigUrl": "https://x.example",
            "statistics": null });
        let set: ScaleSet = serde_json::from_value::<Set>(answer).unwrap().into();
        assert_eq!((set.id, set.labels), (1, vec!["big".to_owned()]));
    }
}
