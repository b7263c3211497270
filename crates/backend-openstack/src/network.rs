//! Neutron: ports, floating addresses, and the security group.

use jiff::Timestamp;
use runner_manager_core::{Error, ErrorKind, NamePrefix, Result, RunnerName};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{Rule, SecurityGroup};
use crate::mark::{MARK, description};
use crate::session::{Api, Request, Service, Verb};

/// A port or a floating address of this manager's.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) id: String,
    pub(crate) name: RunnerName,
    pub(crate) created_at: Option<Timestamp>,
    /// The id of the server that a port is on.
    pub(crate) server: Option<String>,
}

#[derive(Deserialize)]
struct Shown {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    created_at: Option<Timestamp>,
    #[serde(default)]
    device_id: String,
}

fn request(verb: Verb, path: &[&str]) -> Request {
    Request::new(Service::Network, verb, path)
}

fn array<'a>(answer: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    let none = || {
        Error::new(
            ErrorKind::BadAnswer,
            format!("Neutron's list has no `{key}`"),
        )
    };
    answer.get(key).and_then(Value::as_array).ok_or_else(none)
}

fn id(answer: &Value, pointer: &str) -> Result<String> {
    let none = || Error::new(ErrorKind::BadAnswer, "Neutron gave the new thing no id");
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(none)
}

/// The ports of a prefix; of one runner where a name is given. Neutron answers in one piece
/// unless it is asked for pages.
pub(crate) async fn ports(
    api: &Api,
    prefix: &NamePrefix,
    name: Option<&RunnerName>,
) -> Result<Vec<Part>> {
    let mut list = request(Verb::Get, &["ports"]).query("description", description(prefix));
    for field in ["id", "name", "description", "created_at", "device_id"] {
        list = list.query("fields", field);
    }
    if let Some(name) = name {
        list = list.query("name", name.to_string());
    }
    let answer = api.send(&list).await?;
    let owned = |shown: Shown| {
        let proven = shown.description == description(prefix);
        let name = prefix.owned(&shown.name).filter(|_| proven)?;
        Some(Part {
            id: shown.id,
            name,
            created_at: shown.created_at,
            server: Some(shown.device_id).filter(|id| !id.is_empty()),
        })
    };
    parts(array(&answer, "ports")?, owned)
}

/// The floating addresses of a prefix. They have no names: the description holds the runner's.
pub(crate) async fn floating(
    api: &Api,
    prefix: &NamePrefix,
    name: Option<&RunnerName>,
) -> Result<Vec<Part>> {
    let mut list = request(Verb::Get, &["floatingips"]);
    if let Some(name) = name {
        list = list.query("description", floating_description(name));
    }
    let answer = api.send(&list).await?;
    let owned = |shown: Shown| {
        let name = prefix.owned(shown.description.strip_prefix(MARK)?.strip_prefix(' ')?)?;
        Some(Part {
            id: shown.id,
            name,
            created_at: shown.created_at,
            server: Some(shown.device_id).filter(|id| !id.is_empty()),
        })
    };
    parts(array(&answer, "floatingips")?, owned)
}

fn floating_description(name: &RunnerName) -> String {
    format!("{MARK} {name}")
}

fn parts(items: &[Value], owned: impl Fn(Shown) -> Option<Part>) -> Result<Vec<Part>> {
    let mut found = Vec::new();
    for item in items {
        let shown: Shown = serde_json::from_value(item.clone()).map_err(|e| {
            Error::new(
                ErrorKind::BadAnswer,
                "Neutron's answer is not as its protocol says",
            )
            .with_source(e)
        })?;
        found.extend(owned(shown));
    }
    Ok(found)
}

/// The port of a runner: the one that an earlier attempt made, or a new one. Its security group
/// holds from before the first packet, and Nova gives one port to one server only.
pub(crate) async fn ensure_port(
    api: &Api,
    name: &RunnerName,
    network: &str,
    group: &str,
) -> Result<String> {
    if let Some(port) = ports(api, name.prefix(), Some(name))
        .await?
        .into_iter()
        .next()
    {
        return Ok(port.id);
    }
    let body = json!({"port": {
        "name": name.to_string(),
        "description": description(name.prefix()),
        "network_id": network,
        "security_groups": [group],
    }});
    id(
        &api.send(&request(Verb::Post, &["ports"]).body(body))
            .await?,
        "/port/id",
    )
}

/// A floating address on a runner's port.
pub(crate) async fn ensure_floating(
    api: &Api,
    name: &RunnerName,
    network: &str,
    port: &str,
) -> Result<()> {
    if !floating(api, name.prefix(), Some(name)).await?.is_empty() {
        return Ok(());
    }
    let body = json!({"floatingip": {
        "floating_network_id": network,
        "port_id": port,
        "description": floating_description(name),
    }});
    api.send(&request(Verb::Post, &["floatingips"]).body(body))
        .await
        .map(drop)
}

/// Removes a port. One that is gone already is `Ok`.
pub(crate) async fn delete_port(api: &Api, id: &str) -> Result<()> {
    api.find(&request(Verb::Delete, &["ports", id]))
        .await
        .map(drop)
}

/// Gives a floating address back. One that is gone already is `Ok`.
pub(crate) async fn delete_floating(api: &Api, id: &str) -> Result<()> {
    api.find(&request(Verb::Delete, &["floatingips", id]))
        .await
        .map(drop)
}

/// The security groups of a name: Neutron takes one twice.
async fn groups(api: &Api, name: &str) -> Result<Vec<Value>> {
    let list = request(Verb::Get, &["security-groups"]).query("name", name);
    let answer = api.send(&list).await?;
    Ok(array(&answer, "security_groups")?.clone())
}

/// The group that is meant. Of several that managers made, because they started in the same
/// moment, all take the first from then on.
fn the_one(name: &str, mut found: Vec<Value>) -> Result<Value> {
    let text = |group: &Value, key: &str| group[key].as_str().unwrap_or_default().to_owned();
    found.sort_by_key(|group| (text(group, "created_at"), text(group, "id")));
    let all_ours = found.iter().all(|group| group["description"] == MARK);
    if found.len() > 1 && !all_ours {
        let ids: Vec<String> = found.iter().map(|group| text(group, "id")).collect();
        let ids = ids.join(", ");
        let text = format!("several security groups are called `{name}`: {ids}");
        return Err(
            Error::new(ErrorKind::InvalidConfig, text).with_context("key", "security_group.name")
        );
    }
    let none = || Error::new(ErrorKind::BadAnswer, "Neutron does not list the new group");
    found.into_iter().next().ok_or_else(none)
}

/// Makes a security group, unless others made one in the same moment; the one to take.
async fn make_group(api: &Api, name: &str) -> Result<Value> {
    let body = json!({"security_group": {"name": name, "description": MARK}});
    let make = request(Verb::Post, &["security-groups"]).body(body);
    let answer = api.send(&make).await?;
    let made = id(&answer, "/security_group/id")?;
    let time = answer["security_group"]["created_at"]
        .as_str()
        .map(str::to_owned);
    let chosen = the_one(name, groups(api, name).await?)?;
    // Only a later one: of groups of the same second another manager may have taken ours.
    if chosen["id"] != made && chosen["created_at"].as_str() < time.as_deref() {
        let delete = request(Verb::Delete, &["security-groups", &made]);
        if let Err(error) = api.find(&delete).await {
            tracing::warn!(id = made, %error, "a security group that was made twice stays");
        }
    }
    Ok(chosen)
}

/// Makes the security group if it is absent, and adds the rules that it lacks; its id.
pub(crate) async fn ensure_group(api: &Api, group: &SecurityGroup) -> Result<String> {
    let found = groups(api, &group.name).await?;
    let chosen = if found.is_empty() {
        make_group(api, &group.name).await?
    } else {
        the_one(&group.name, found)?
    };
    let (id, there) = (id(&chosen, "/id")?, &chosen["security_group_rules"]);
    let there = there.as_array().cloned().unwrap_or_default();
    for rule in group.all_rules() {
        if there.iter().any(|shown| is(shown, &rule)) {
            continue;
        }
        let mut body = rule.body();
        body["security_group_id"] = id.clone().into();
        let add = request(Verb::Post, &["security-group-rules"])
            .body(json!({"security_group_rule": body}));
        match api.send(&add).await {
            // Another pool added it just now.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            outcome => drop(outcome?),
        }
    }
    Ok(id)
}

fn is(shown: &Value, rule: &Rule) -> bool {
    let wanted = rule.body();
    let any = |value: &Value| value.is_null() || value == "0.0.0.0/0" || value == "::/0";
    [
        "direction",
        "ethertype",
        "protocol",
        "port_range_min",
        "port_range_max",
        "remote_ip_prefix",
    ]
    .iter()
    .all(|key| {
        let (a, b) = (&shown[*key], &wanted[*key]);
        a == b || (any(a) && any(b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Direction;

    #[test]
    fn of_groups_that_managers_made_at_once_all_take_the_first() {
        let group = |id: &str, made: &str, description: &str| json!({ "id": id, "created_at": made, "description": description });
        let twice = vec![
            group("b", "2", MARK),
            group("c", "1", MARK),
            group("a", "2", MARK),
        ];
        assert_eq!(the_one("g", twice.clone()).unwrap()["id"], "c");
        let error = the_one("g", [twice, vec![group("d", "0", "")]].concat()).unwrap_err();
        assert!(error.to_string().contains("d, c, a, b"), "{error}");
        assert_eq!(the_one("g", vec![group("d", "0", "")]).unwrap()["id"], "d");
        assert!(the_one("g", Vec::new()).is_err());
    }

    #[test]
    fn a_rule_is_known_again_as_neutron_shows_it() {
        let rule = Rule {
            direction: Direction::Egress,
            protocol: Some("tcp".into()),
            ports: Some([10022, 10022]),
            cidr: None,
        };
        let mut shown = json!({
            "id": "x", "direction": "egress", "ethertype": "IPv4", "protocol": "tcp",
            "port_range_min": 10022, "port_range_max": 10022, "remote_ip_prefix": null, "description": ""
        });
        assert!(is(&shown, &rule));
        shown["remote_ip_prefix"] = "0.0.0.0/0".into();
        assert!(is(&shown, &rule));
        shown["remote_ip_prefix"] = "10.0.0.0/8".into();
        assert!(!is(&shown, &rule));
    }
}
