//! Cinder's volumes: the boot volume of a runner, where one is configured.

use std::time::Duration;

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, NamePrefix, Result, Retry, RunnerName};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::BootVolume;
use crate::mark::MARK;
use crate::network::Part;
use crate::servers::pages;
use crate::session::{Api, Request, Service, Verb};

/// The pause between two looks at a volume that is being made.
const PAUSE: Duration = Duration::from_secs(2);

/// After which a volume that was still worked on may be removed.
const BUSY: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Shown {
    id: String,
    #[serde(default)]
    name: Option<String>,
    status: String,
    /// In UTC, without saying so.
    created_at: Option<String>,
    #[serde(default)]
    metadata: std::collections::BTreeMap<String, String>,
}

fn request(verb: Verb, path: &[&str]) -> Request {
    Request::new(Service::Volume, verb, path)
}

fn shown(value: Value) -> Result<Shown> {
    let strange = |e| {
        Error::new(
            ErrorKind::BadAnswer,
            "Cinder's answer is not as its protocol says",
        )
        .with_source(e)
    };
    serde_json::from_value(value).map_err(strange)
}

/// A volume of the prefix. One that is being deleted is Cinder's business alone.
fn owned(shown: Shown, prefix: &NamePrefix) -> Option<Part> {
    if shown.status == "deleting" {
        return None;
    }
    let name = prefix.owned(shown.name.as_deref()?)?;
    let proven = shown.metadata.get(MARK).map(String::as_str) == Some(prefix.as_str());
    let created_at = shown.created_at.and_then(|text| {
        format!("{}Z", text.trim_end_matches('Z'))
            .parse::<Timestamp>()
            .ok()
    });
    proven.then_some(Part {
        id: shown.id,
        name,
        created_at,
        server: None,
    })
}

/// The volumes of a prefix; of one runner where a name is given.
pub(crate) async fn list(
    api: &Api,
    prefix: &NamePrefix,
    name: Option<&RunnerName>,
) -> Result<Vec<Part>> {
    let mut list = request(Verb::Get, &["volumes", "detail"]);
    if let Some(name) = name {
        list = list.query("name", name.to_string());
    }
    let found = pages(api, list, "volumes", "/id").await?;
    let mut parts = Vec::new();
    for value in found {
        parts.extend(owned(shown(value)?, prefix));
    }
    Ok(parts)
}

/// The boot volume of a runner, ready for use: the one that an earlier attempt made, or a new
/// one. The caller bounds the wait.
pub(crate) async fn ensure(
    api: &Api,
    name: &RunnerName,
    image: &str,
    wanted: &BootVolume,
) -> Result<String> {
    let there = list(api, name.prefix(), Some(name))
        .await?
        .into_iter()
        .next();
    let id = if let Some(there) = there {
        there.id
    } else {
        let mut volume = json!({
            "name": name.to_string(),
            "size": wanted.size_gib,
            "imageRef": image,
            "metadata": { MARK: name.prefix().as_str() },
        });
        if let Some(kind) = &wanted.volume_type {
            volume["volume_type"] = kind.clone().into();
        }
        let made = api
            .send(&request(Verb::Post, &["volumes"]).body(json!({ "volume": volume })))
            .await?;
        let none = || Error::new(ErrorKind::BadAnswer, "Cinder gave the new volume no id");
        made.pointer("/volume/id")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(none)?
    };
    loop {
        let mut answer = api.send(&request(Verb::Get, &["volumes", &id])).await?;
        match shown(answer["volume"].take())?.status.as_str() {
            "available" | "in-use" => return Ok(id),
            "error" => {
                let text = "Cinder could not make the boot volume";
                return Err(Error::new(ErrorKind::NoCapacity, text).with_context("volume", id));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Removes a volume. One that is gone already is `Ok`; one that Cinder is still at work on, being
/// made or attached, can be removed later.
pub(crate) async fn delete(api: &Api, id: &str) -> Result<()> {
    let deleted = api.find(&request(Verb::Delete, &["volumes", id])).await;
    deleted.map(drop).map_err(|error| match error.kind() {
        ErrorKind::InvalidRequest => error.with_retry(Retry::After(BUSY)),
        _ => error,
    })
}
