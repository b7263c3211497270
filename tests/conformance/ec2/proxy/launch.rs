//! `RunInstances`, as EC2 has it: once for a client token, and not with anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Mutex as AsyncMutex;

use super::request::{Answer, Call};
use super::{Shared, xml};

/// The most bytes of user-data.
const USER_DATA: usize = 16_384;

/// A launch that succeeded: its parameters, its answer, its instance.
type Done = (Vec<(String, String)>, Answer, String);

/// The launches so far, by client token.
#[derive(Default)]
pub(super) struct Launches(Mutex<HashMap<String, Arc<AsyncMutex<Option<Done>>>>>);

pub(super) async fn run(shared: &Arc<Shared>, call: &Call) -> Answer {
    once(shared, call, async |call| {
        match refusal(shared, call).await {
            Some(refusal) => refusal,
            None => shared.forward(call).await,
        }
    })
    .await
}

/// Does the work once for a client token; later calls get the first one's answer.
pub(super) async fn once(
    shared: &Arc<Shared>,
    call: &Call,
    work: impl AsyncFnOnce(&Call) -> Answer,
) -> Answer {
    let token = call.value("ClientToken").unwrap_or_default().to_owned();
    assert!(
        !token.is_empty(),
        "a launch without a client token: {call:?}"
    );
    let slot = {
        let mut all = shared
            .launches
            .0
            .lock()
            .expect("no test panics with the lock");
        Arc::clone(all.entry(token).or_default())
    };
    let mut slot = slot.lock().await;
    if let Some((form, answer, instance)) = &*slot {
        if *form != call.form {
            return Answer::error(call, 400, "IdempotentParameterMismatch");
        }
        if has_ended(shared, call, instance).await {
            return Answer::error(call, 400, "IdempotentInstanceTerminated");
        }
        return answer.clone();
    }
    let answer = work(call).await;
    if answer.status == 200
        && let Some(instance) = instance_of(&answer)
    {
        let answer = boot(shared, call, &instance, answer).await;
        *slot = Some((call.form.clone(), answer.clone(), instance.clone()));
        shared.with(&call.prefix, |site| {
            let at = Instant::now() + site.settling;
            site.visible.insert(instance, at);
        });
        return answer;
    }
    answer
}

/// Runs a new instance, where instances run.
async fn boot(shared: &Arc<Shared>, call: &Call, instance: &str, answer: Answer) -> Answer {
    let Some(host) = shared.host.get().cloned() else {
        return answer;
    };
    let data = call.form.iter().find(|(key, _)| key.ends_with("UserData"));
    let data = data
        .map(|(_, data)| STANDARD.decode(data).expect("base64"))
        .unwrap_or_default();
    let name = call
        .form
        .iter()
        .find(|(_, value)| value == "Name")
        .and_then(|(key, _)| {
            call.value(&key.replace(".Key", ".Value"))
                .map(str::to_owned)
        });
    let (id, name) = (
        instance.to_owned(),
        name.expect("a launch names its instance"),
    );
    let booted = tokio::task::spawn_blocking(move || host.boot(&id, &name, &data));
    booted.await.expect("it boots");
    let mut answer = answer;
    shared.place(&mut answer.body);
    answer
}

/// The instance that an answer names, of a launch or of a fleet.
pub(super) fn instance_of(answer: &Answer) -> Option<String> {
    let start = answer
        .body
        .find("i-")
        .filter(|_| answer.body.contains("nstanceId"))?;
    match xml::text(&answer.body, "instanceId") {
        Some(id) => Some(id.to_owned()),
        None => {
            let id: String = answer.body[start..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '-')
                .collect();
            Some(id)
        }
    }
}

async fn has_ended(shared: &Arc<Shared>, call: &Call, instance: &str) -> bool {
    let form = [
        ("Action", "DescribeInstances"),
        ("Version", "2016-11-15"),
        ("InstanceId.1", instance),
    ];
    let form = form.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let answer = shared.forward(&call.with_form(form.to_vec())).await;
    answer.status != 200
        || ["terminated", "shutting-down"]
            .iter()
            .any(|s| answer.body.contains(&format!("<name>{s}</name>")))
}

/// What EC2 refuses and moto takes.
pub(super) async fn refusal(shared: &Arc<Shared>, call: &Call) -> Option<Answer> {
    let user_data = call.value("UserData").unwrap_or_default();
    let Ok(user_data) = STANDARD.decode(user_data) else {
        return Some(Answer::error(call, 400, "InvalidUserData.Malformed"));
    };
    if user_data.len() > USER_DATA {
        return Some(Answer::error(call, 400, "InvalidParameterValue"));
    }
    let known = |action: &str, key: &str, value: &str| {
        let form = [("Action", action), ("Version", "2016-11-15"), (key, value)];
        let form = form.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let question = call.with_form(form.to_vec());
        async move { shared.forward(&question).await.status == 200 }
    };
    if let Some(image) = call.value("ImageId")
        && !known("DescribeImages", "ImageId.1", image).await
    {
        return Some(Answer::error(call, 400, "InvalidAMIID.NotFound"));
    }
    if let Some(kind) = call.value("InstanceType")
        && !known("DescribeInstanceTypes", "InstanceType.1", kind).await
    {
        return Some(Answer::error(call, 400, "InvalidParameterValue"));
    }
    None
}
