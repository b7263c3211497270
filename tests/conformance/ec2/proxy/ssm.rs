//! Systems Manager's commands: what its agent would run, runs on the machine behind an instance.
//! moto takes commands, and runs none.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use runner_manager_core::InstanceId;
use serde_json::{Value, json};

use super::Host;
use super::request::{Answer, Call};

/// How long an invocation is not found after its command was sent.
const LATE: Duration = Duration::from_millis(150);
/// Of each stream this much is kept, in characters.
const KEPT: usize = 24_000;

/// The commands so far, by id.
#[derive(Default)]
pub(super) struct Commands(Arc<Mutex<HashMap<String, Invocation>>>);

struct Invocation {
    instance: String,
    sent: Instant,
    end: Option<End>,
}

/// How a command ended.
struct End {
    status: &'static str,
    code: i32,
    stdout: String,
    stderr: String,
}

impl Commands {
    /// `SendCommand`: begins a command, and answers at once.
    pub(super) fn send(&self, host: &dyn Host, call: &Call) -> Answer {
        let asked = call.json();
        let instance = text(&asked["InstanceIds"][0]);
        // The agent registers as soon as the machine has booted.
        let Some(shell) = host.shell(&instance) else {
            return Answer::error(call, 400, "InvalidInstanceId");
        };
        let script: Vec<String> = asked["Parameters"]["commands"]
            .as_array()
            .map(|lines| lines.iter().map(text).collect())
            .unwrap_or_default();
        let limit = text(&asked["Parameters"]["executionTimeout"][0]);
        let limit = Duration::from_secs(limit.parse().unwrap_or(3_600));
        let id = InstanceId::random().to_string();
        let invocation = Invocation {
            instance: instance.clone(),
            sent: Instant::now(),
            end: None,
        };
        self.0
            .lock()
            .expect("no test panics with the lock")
            .insert(id.clone(), invocation);
        let all = Arc::clone(&self.0);
        let running = id.clone();
        tokio::spawn(async move {
            let end = run(shell, &script.join("\n"), limit).await;
            let mut all = all.lock().expect("no test panics with the lock");
            if let Some(invocation) = all.get_mut(&running) {
                invocation.end = Some(end);
            }
        });
        let command = json!({
            "CommandId": id, "DocumentName": asked["DocumentName"],
            "InstanceIds": [instance], "Status": "Pending", "StatusDetails": "Pending",
        });
        answer(&json!({"Command": command}))
    }

    /// `GetCommandInvocation`: how far a command is on an instance.
    pub(super) fn get(&self, call: &Call) -> Answer {
        let asked = call.json();
        let (id, instance) = (text(&asked["CommandId"]), text(&asked["InstanceId"]));
        let all = self.0.lock().expect("no test panics with the lock");
        let known = all
            .get(&id)
            .filter(|known| known.instance == instance && known.sent.elapsed() > LATE);
        let Some(known) = known else {
            return Answer::error(call, 400, "InvocationDoesNotExist");
        };
        let (status, code, stdout, stderr) = match &known.end {
            Some(end) => (end.status, end.code, &*end.stdout, &*end.stderr),
            None => ("InProgress", -1, "", ""),
        };
        answer(&json!({
            "CommandId": id, "InstanceId": instance,
            "Status": status, "StatusDetails": status, "ResponseCode": code,
            "StandardOutputContent": stdout, "StandardErrorContent": stderr,
        }))
    }
}

/// Runs a script as the agent does: by a shell, as root, to its end or its deadline.
async fn run(shell: Command, script: &str, limit: Duration) -> End {
    let mut shell = tokio::process::Command::from(shell);
    shell.args(["-c", script]).stdin(Stdio::null());
    let ended = tokio::time::timeout(limit, shell.kill_on_drop(true).output()).await;
    match ended {
        Ok(Ok(output)) => End {
            status: if output.status.success() {
                "Success"
            } else {
                "Failed"
            },
            code: output.status.code().unwrap_or(-1),
            stdout: kept(&output.stdout),
            stderr: kept(&output.stderr),
        },
        // The machine has ended.
        Ok(Err(_)) => End::without_output("Undeliverable"),
        Err(_) => End::without_output("TimedOut"),
    }
}

impl End {
    fn without_output(status: &'static str) -> Self {
        Self {
            status,
            code: -1,
            stdout: String::new(),
            stderr: String::new(),
        }
    }
}

fn kept(stream: &[u8]) -> String {
    let text = String::from_utf8_lossy(stream);
    text.chars().take(KEPT).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn answer(body: &Value) -> Answer {
    Answer {
        status: 200,
        content_type: Some(HeaderValue::from_static("application/x-amz-json-1.1")),
        body: body.to_string(),
    }
}
