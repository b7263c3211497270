//! Nova's servers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use runner_manager_core::{
    CloudInstance, CloudRunnerState, Error, ErrorKind, NamePrefix, Result, RunnerName,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api;
use crate::mark::MARK;
use crate::session::{Api, Request, Service, Verb};

/// How many lines of a console are asked for.
const CONSOLE_LINES: u32 = 400;

/// A server, as far as the backend looks at it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Server {
    pub(crate) id: String,
    name: String,
    status: String,
    #[serde(rename = "OS-EXT-STS:task_state")]
    task: Option<String>,
    created: Timestamp,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    addresses: BTreeMap<String, Vec<Address>>,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Deserialize)]
struct Address {
    addr: IpAddr,
    #[serde(rename = "OS-EXT-IPS:type")]
    kind: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Fault {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

impl Server {
    pub(crate) fn state(&self) -> CloudRunnerState {
        api::state(&self.status, self.task.as_deref())
    }

    /// Why it is in the state `ERROR`.
    pub(crate) fn fault(&self) -> Error {
        match &self.fault {
            Some(fault) => api::fault(fault.code, &fault.message),
            None => api::fault(0, ""),
        }
    }

    /// The addresses, those that are reached from outside first, then IPv4 before IPv6.
    fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<&Address> = self.addresses.values().flatten().collect();
        all.sort_by_key(|a| (a.kind.as_deref() != Some("floating"), a.addr.is_ipv6()));
        all.into_iter().map(|a| a.addr).collect()
    }

    /// The instance that it is, if its name and its mark prove it to be of the prefix.
    pub(crate) fn owned(&self, prefix: &NamePrefix) -> Option<CloudInstance> {
        let name = prefix.owned(&self.name)?;
        if self.metadata.get(MARK).map(String::as_str) != Some(prefix.as_str()) {
            return None;
        }
        Some(CloudInstance {
            name,
            native_id: self.id.clone(),
            state: self.state(),
            created_at: self.created,
            addresses: self.addresses(),
        })
    }
}

fn request(verb: Verb, path: &[&str]) -> Request {
    Request::new(Service::Compute, verb, path)
}

fn strange(error: serde_json::Error) -> Error {
    Error::new(
        ErrorKind::BadAnswer,
        "the cloud's answer is not as its protocol says",
    )
    .with_source(error)
}

/// All of a paged list. A page that has a next one says so.
pub(crate) async fn pages(
    api: &Api,
    request: Request,
    key: &str,
    marker: &str,
) -> Result<Vec<Value>> {
    let more = format!("{key}_links");
    let mut all: Vec<Value> = Vec::new();
    let mut next = request.clone();
    loop {
        let mut page = api.send(&next).await?;
        let Some(Value::Array(items)) = page.get_mut(key).map(Value::take) else {
            let text = format!("the cloud's list has no `{key}`");
            return Err(Error::new(ErrorKind::BadAnswer, text));
        };
        let last = items
            .last()
            .and_then(|item| item.pointer(marker)?.as_str())
            .map(str::to_owned);
        all.extend(items);
        let has_next = page
            .get(&more)
            .and_then(Value::as_array)
            .is_some_and(|links| {
                links
                    .iter()
                    .any(|link| link.get("rel").is_some_and(|rel| rel == "next"))
            });
        match last {
            Some(last) if has_next => next = request.clone().query("marker", last),
            _ => return Ok(all),
        }
    }
}

/// The servers whose names match an expression of the database, and bear the tag.
async fn matching(api: &Api, name: String) -> Result<Vec<Server>> {
    let list = request(Verb::Get, &["servers", "detail"])
        .query("name", name)
        .query("tags", MARK);
    let found = pages(api, list, "servers", "/id").await?;
    found
        .into_iter()
        .map(|value| serde_json::from_value(value).map_err(strange))
        .collect()
}

/// Every server of a prefix.
pub(crate) async fn list(api: &Api, prefix: &NamePrefix) -> Result<Vec<CloudInstance>> {
    // A prefix holds letters, digits and `-`: nothing of it means anything in an expression.
    let found = matching(api, format!("^{prefix}-")).await?;
    Ok(found
        .iter()
        .filter_map(|server| server.owned(prefix))
        .collect())
}

/// The servers of a name, in whatever state.
pub(crate) async fn of_name(api: &Api, name: &RunnerName) -> Result<Vec<Server>> {
    let mut found = matching(api, format!("^{name}$")).await?;
    found.retain(|server| {
        server
            .owned(name.prefix())
            .is_some_and(|owned| owned.name == *name)
    });
    Ok(found)
}

/// The newest server of a name.
pub(crate) async fn newest(api: &Api, name: &RunnerName) -> Result<Option<Server>> {
    let found = of_name(api, name).await?;
    Ok(found
        .into_iter()
        .max_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id))))
}

/// One server, if it is still there.
pub(crate) async fn get(api: &Api, id: &str) -> Result<Option<Server>> {
    match api.find(&request(Verb::Get, &["servers", id])).await? {
        Some(mut answer) => serde_json::from_value(answer["server"].take())
            .map(Some)
            .map_err(strange),
        None => Ok(None),
    }
}

/// Creates a server; its id.
pub(crate) async fn create(api: &Api, body: Value) -> Result<String> {
    let answer = api
        .send(&request(Verb::Post, &["servers"]).body(body))
        .await?;
    let id = answer.pointer("/server/id").and_then(Value::as_str);
    let none = || Error::new(ErrorKind::BadAnswer, "Nova gave the new server no id");
    id.map(str::to_owned).ok_or_else(none)
}

/// Asks for a server to be deleted. One that is gone already is `Ok`.
pub(crate) async fn delete(api: &Api, id: &str) -> Result<()> {
    api.find(&request(Verb::Delete, &["servers", id]))
        .await
        .map(drop)
}

/// The end of a server's console. `None` where it has none, or none yet.
pub(crate) async fn console(api: &Api, id: &str) -> Result<Option<String>> {
    let body = json!({"os-getConsoleOutput": {"length": CONSOLE_LINES}});
    let ask = request(Verb::Post, &["servers", id, "action"]).body(body);
    match api.find(&ask).await {
        Ok(answer) => {
            let output = answer.as_ref().and_then(|a| a.get("output")?.as_str());
            Ok(output.filter(|text| !text.is_empty()).map(str::to_owned))
        }
        // Not ready: it has no host yet.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is left of the project's quota, against what one more server takes.
pub(crate) async fn check_room(api: &Api, cores: u64, ram_mib: u64) -> Result<()> {
    let answer = api.send(&request(Verb::Get, &["limits"])).await?;
    let limit = |key: &str| {
        answer
            .pointer(&format!("/limits/absolute/{key}"))
            .and_then(Value::as_i64)
    };
    for (what, used, most, takes) in [
        ("instances", "totalInstancesUsed", "maxTotalInstances", 1),
        ("cores", "totalCoresUsed", "maxTotalCores", cores),
        ("MiB of memory", "totalRAMUsed", "maxTotalRAMSize", ram_mib),
    ] {
        let (Some(used), Some(most)) = (limit(used), limit(most)) else {
            continue;
        };
        // A limit below zero is none.
        let takes = i64::try_from(takes).unwrap_or(i64::MAX);
        if most >= 0 && used.saturating_add(takes) > most {
            let text = format!(
                "the project's quota of {what} is used up: {used} of {most}, and {takes} more are needed"
            );
            return Err(api::full(text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, mark: Option<&str>) -> Server {
        let metadata = mark.map_or_else(|| json!({}), |mark| json!({ MARK: mark }));
        serde_json::from_value(json!({
            "id": "1", "name": name, "status": "ACTIVE", "created": "2026-11-25T07:00:00Z",
            "OS-EXT-STS:task_state": null, "metadata": metadata,
            "addresses": {
                "private": [
                    {"addr": "fd00::1", "version": 6, "OS-EXT-IPS:type": "fixed"},
                    {"addr": "10.20.0.5", "version": 4, "OS-EXT-IPS:type": "fixed"},
                    {"addr": "198.51.100.7", "version": 4, "OS-EXT-IPS:type": "floating"}
                ]
            }
        }))
        .unwrap()
    }

    #[test]
    fn ownership_takes_the_whole_name_and_the_mark() {
        let app = NamePrefix::new("app").unwrap();
        assert!(
            server("app-0123456789ab", Some("app"))
                .owned(&app)
                .is_some()
        );
        for (name, mark) in [
            ("app-0123456789ab", None),
            ("app-0123456789ab", Some("app-1")),
            ("app-1-0123456789ab", Some("app")),
            ("app-web", Some("app")),
        ] {
            assert!(server(name, mark).owned(&app).is_none(), "{name} {mark:?}");
        }
    }

    #[test]
    fn what_is_reached_from_outside_comes_first() {
        let app = NamePrefix::new("app").unwrap();
        let found = server("app-0123456789ab", Some("app")).owned(&app).unwrap();
        let shown: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["198.51.100.7", "10.20.0.5", "fd00::1"]);
    }
}
