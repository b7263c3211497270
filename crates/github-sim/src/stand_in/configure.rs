//! `config.sh`: registers with a token, or removes the registration.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::args::Arguments;
use super::http::{self, Reply};
use super::{block_on, files};

const PATIENCE: Duration = Duration::from_secs(15);
const FILES: [&str; 4] = [
    ".runner",
    ".credentials",
    ".credentials_rsaparams",
    ".session",
];

/// Registers the runner and writes its files.
pub(super) fn configure(root: &Path, arguments: &Arguments) -> Result<u8, String> {
    if root.join(".runner").exists() {
        return Err("the runner is configured already; run `config.sh remove` first".into());
    }
    let (server, path) = http::split(arguments.need("url")?)?;
    let mut labels: Vec<String> = Vec::new();
    if !arguments.has("no-default-labels") {
        let machine = if cfg!(target_arch = "aarch64") {
            "ARM64"
        } else {
            "X64"
        };
        labels.extend(["self-hosted", "Linux", machine].map(str::to_owned));
    }
    for label in arguments.value("labels").unwrap_or_default().split(',') {
        let label = label.trim();
        let known = labels.iter().any(|own| own.eq_ignore_ascii_case(label));
        if !label.is_empty() && !known {
            labels.push(label.to_owned());
        }
    }
    let body = json!({
        "path": path,
        "token": arguments.need("token")?,
        "name": arguments.need("name")?,
        "labels": labels,
        "group": arguments.value("runnergroup"),
        "ephemeral": arguments.has("ephemeral"),
        "replace": arguments.has("replace"),
        "work_folder": arguments.value("work").unwrap_or("_work"),
    });
    let reply = block_on(server.post("/_runner/register", &body, PATIENCE))?
        .map_err(|e| format!("cannot register: {e}"))?;
    if reply.status != 201 {
        return Err(explain(&reply));
    }
    let store = |name: &str, text: String| {
        files::write(&root.join(name), text.as_bytes())
            .map_err(|e| format!("cannot write {name}: {e}"))
    };
    let credentials = json!({ "scheme": "OAuth", "data": {} });
    store(".credentials", credentials.to_string())?;
    let secret = json!({ "secret": reply.body["secret"] });
    store(".credentials_rsaparams", secret.to_string())?;
    store(".runner", reply.body["settings"].to_string())?;
    println!("Settings Saved.");
    Ok(0)
}

fn explain(reply: &Reply) -> String {
    let advice = match reply.status {
        401 => "the token is wrong, too old or of another scope",
        404 => "the address or the runner group does not exist",
        409 => "a runner of this name exists; use --replace or another name",
        _ => "see the server's words",
    };
    format!("cannot register: {advice} ({})", reply.message())
}

/// Removes the registration and the files.
pub(super) fn remove(root: &Path, arguments: &Arguments) -> Result<u8, String> {
    let configured = files::configured(root)?;
    let (server, _) = http::split(&configured.settings.server_url)?;
    let body = json!({
        "runner": configured.settings.agent_id,
        "token": arguments.need("token")?,
    });
    let reply = block_on(server.post("/_runner/remove", &body, PATIENCE))?
        .map_err(|e| format!("cannot remove the runner: {e}"))?;
    if !matches!(reply.status, 204 | 404) {
        return Err(format!("cannot remove the runner: {}", reply.message()));
    }
    for name in FILES {
        // What is not there need not go.
        let _ = std::fs::remove_file(root.join(name));
    }
    println!("Runner removed.");
    Ok(0)
}
