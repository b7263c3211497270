//! What backends without machines share: what they can do, and what their runners do.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, StatusCode};
use runner_manager_core::{Capability, Support};
use serde_json::{Value, json};

/// A runner gets a just-in-time config, and nobody can ask it anything.
pub(crate) fn capability() -> Capability {
    let no = Support::Unsupported("there is no machine");
    Capability {
        jit_config: Support::Native,
        registration_token: no,
        claim: no,
        guest: no,
        cloud_init: no,
        idle_stop: no,
        shell: no,
        console: no,
        resource_limits: no,
        support_services: no,
        outlives_manager: no,
        max_instances: None,
        max_user_data_bytes: None,
    }
}

/// The fields of a just-in-time config that the simulator's own protocol needs.
fn unpack(config: &str) -> (String, Value, Value) {
    let decode =
        |text: &str| -> Value { serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap() };
    let files = decode(config);
    let settings = decode(files[".runner"].as_str().unwrap());
    let keys = decode(files[".credentials_rsaparams"].as_str().unwrap());
    let url = settings["serverUrl"].as_str().unwrap().to_owned();
    (url, settings["agentId"].clone(), keys["secret"].clone())
}

/// What a listener does: one job, and gone.
pub(crate) async fn listen(client: Client, config: String) {
    let (url, runner, secret) = unpack(&config);
    let post = async |path: String, body: Value| {
        let sent = client.post(format!("{url}/_runner/{path}")).json(&body);
        let answer = sent.send().await.unwrap();
        let status = answer.status();
        (status, answer.json::<Value>().await.unwrap_or_default())
    };
    let hello = json!({ "runner": runner, "secret": secret, "nonce": "one" });
    let (_, opened) = post("session".into(), hello).await;
    let session = opened["session"].clone();
    loop {
        let (status, job) = post("poll".into(), json!({ "session": session })).await;
        match status {
            StatusCode::OK => {
                let id = &job["id"];
                let body = json!({ "session": session, "conclusion": "success" });
                post(format!("jobs/{id}/started"), body.clone()).await;
                post(format!("jobs/{id}/completed"), body).await;
                return;
            }
            StatusCode::NO_CONTENT => {}
            // The registration was removed.
            _ => return,
        }
    }
}
