//! Where the credentials come from: `clouds.yaml` and its companions, or the environment, as
//! OpenStack's own clients find them.
//!
//! <https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html>

use std::path::{Path, PathBuf};

use osauth::CloudConfig;
use runner_manager_core::{Error, ErrorKind, Result};
use serde_json::{Map, Value};

/// The most bytes that a file may have.
const MAX_BYTES: u64 = 1024 * 1024;

/// What a cloud is called, and how to log in to it.
pub(crate) struct Credentials {
    /// Its entry, or its Keystone, for messages.
    pub(crate) label: String,
    /// The account, for the budget of requests: endpoint, project and user; no secret.
    pub(crate) account: String,
    /// What makes sessions.
    pub(crate) config: CloudConfig,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// The environment, as a function so that tests can stand in for it.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Finds the credentials: of the entry `cloud`, else of `OS_CLOUD`, else those in the
/// environment, else of the only entry there is. Blocking.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`], with the file or the variable.
pub(crate) fn find(
    cloud: Option<&str>,
    file: Option<&Path>,
    env: Environment<'_>,
) -> Result<Credentials> {
    let named = cloud.map(str::to_owned).or_else(|| env("OS_CLOUD"));
    if named.is_none() && file.is_none() && env("OS_AUTH_URL").is_some() {
        return credentials(from_environment(env), "the environment");
    }
    let path = match file {
        Some(path) => path.to_owned(),
        None => locate("clouds.yaml", "OS_CLIENT_CONFIG_FILE", env).ok_or_else(|| {
            wrong(
                "no credentials: there is no clouds.yaml in `.`, `~/.config/openstack` or \
                 `/etc/openstack`, and OS_AUTH_URL is not set",
            )
        })?,
    };
    let in_file = |e: Error| e.with_context("file", path.display());
    let mut clouds = section(&path, "clouds")?;
    let name = match named {
        Some(name) => name,
        None => only(&clouds).map_err(in_file)?,
    };
    let Some(Value::Object(mut entry)) = clouds.remove(&name) else {
        let known: Vec<&str> = clouds.keys().map(String::as_str).collect();
        let known = known.join(", ");
        return Err(in_file(wrong(format!(
            "there is no cloud `{name}`; there are: {known}"
        ))));
    };
    // `secure.yaml` beside the file that was named, or on the search path.
    let beside = file
        .and_then(Path::parent)
        .map(|dir| dir.join("secure.yaml"));
    let secure = match beside {
        Some(beside) => Some(beside).filter(|path| path.is_file()),
        None => locate("secure.yaml", "OS_CLIENT_SECURE_FILE", env),
    };
    if let Some(secure) = secure
        && let Some(Value::Object(more)) = section(&secure, "clouds")?.remove(&name)
    {
        merge(&mut entry, more, Wins::Added);
    }
    if let Some(profile) = entry.remove("profile") {
        let profile = profile.as_str().unwrap_or_default().to_owned();
        let public = locate("clouds-public.yaml", "OS_CLIENT_VENDOR_FILE", env);
        let found = public
            .as_deref()
            .map(|path| section(path, "public-clouds"))
            .transpose()?;
        let Some(Value::Object(base)) = found.and_then(|mut all| all.remove(&profile)) else {
            let text = format!("the profile `{profile}` is not in a clouds-public.yaml");
            return Err(in_file(wrong(text)));
        };
        merge(&mut entry, base, Wins::There);
    }
    credentials(entry, &name).map_err(in_file)
}

fn only(clouds: &Map<String, Value>) -> Result<String> {
    let mut names = clouds.keys();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.clone()),
        (None, _) => Err(wrong("the file names no cloud")),
        _ => {
            let all: Vec<&str> = clouds.keys().map(String::as_str).collect();
            Err(wrong(format!(
                "set `cloud`, or OS_CLOUD, to one of: {}",
                all.join(", ")
            )))
        }
    }
}

fn locate(name: &str, variable: &str, env: Environment<'_>) -> Option<PathBuf> {
    if let Some(path) = env(variable) {
        return Some(path.into());
    }
    let config = env("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(Path::new(&env("HOME")?).join(".config")));
    let folders = [
        Some(PathBuf::from(".")),
        config.map(|c| c.join("openstack")),
        Some("/etc/openstack".into()),
    ];
    folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The entries below a key of a YAML file.
fn section(path: &Path, key: &str) -> Result<Map<String, Value>> {
    let in_file = |e: Error| e.with_context("file", path.display());
    let read = || {
        if std::fs::metadata(path)?.len() > MAX_BYTES {
            return Err(std::io::Error::other("it is larger than 1 MiB"));
        }
        std::fs::read_to_string(path)
    };
    let text = read().map_err(|e| in_file(wrong("cannot read the file").with_source(e)))?;
    // The parser's own message could show a line that holds a secret.
    let root: Value = serde_saphyr::from_str(&text).map_err(|e| {
        let line = e
            .location()
            .map_or_else(|| "?".to_owned(), |at| at.line().to_string());
        in_file(wrong("the file is not valid YAML").with_context("line", line))
    })?;
    match root.get(key) {
        Some(Value::Object(entries)) => Ok(entries.clone()),
        _ => Err(in_file(wrong(format!("the file has no `{key}`")))),
    }
}

/// Which of two values of one key stays.
#[derive(Clone, Copy)]
enum Wins {
    There,
    Added,
}

fn merge(into: &mut Map<String, Value>, more: Map<String, Value>, wins: Wins) {
    for (key, value) in more {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(there)), Value::Object(value)) => merge(there, value, wins),
            (Some(there), value) => {
                if matches!(wins, Wins::Added) {
                    *there = value;
                }
            }
            (None, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// The variables of an `openrc` file, as an entry.
fn from_environment(env: Environment<'_>) -> Map<String, Value> {
    let auth = [
        "auth_url",
        "username",
        "user_id",
        "password",
        "user_domain_name",
        "user_domain_id",
        "project_name",
        "project_id",
        "project_domain_name",
        "project_domain_id",
        "token",
        "application_credential_id",
        "application_credential_secret",
        "application_credential_name",
    ];
    let get = |key: &str| {
        let variable = format!("OS_{}", key.to_ascii_uppercase());
        env(&variable)
            .filter(|value| !value.is_empty())
            .map(Value::from)
    };
    let auth: Map<String, Value> = auth
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), get(key)?)))
        .collect();
    let mut entry = Map::from_iter([("auth".to_owned(), Value::from(auth))]);
    for key in ["auth_type", "region_name", "interface", "cacert"] {
        entry.extend(get(key).map(|value| (key.to_owned(), value)));
    }
    entry
}

/// Checks an entry, and brings it into the one form that the session takes.
fn credentials(mut entry: Map<String, Value>, label: &str) -> Result<Credentials> {
    let Some(Value::Object(auth)) = entry.get_mut("auth") else {
        return Err(wrong(format!("the cloud `{label}` has no `auth`")));
    };
    // A numeric name or password is a number to YAML.
    for value in auth.values_mut() {
        if let Value::Number(number) = value {
            *value = number.to_string().into();
        }
    }
    // The one domain that every Keystone has, under its id.
    if let Some(id) = auth.remove("user_domain_id") {
        if id != "default" && !auth.contains_key("user_domain_name") {
            return Err(wrong(
                "`user_domain_id` is not supported; give `user_domain_name`",
            ));
        }
        auth.entry("user_domain_name")
            .or_insert_with(|| "Default".into());
    }
    if let Some(domain) = auth.remove("domain_name") {
        auth.entry("user_domain_name").or_insert(domain);
    }
    let has = |auth: &Map<String, Value>, key: &str| auth.contains_key(key);
    let by_credential = has(auth, "application_credential_secret");
    let text = |auth: &Map<String, Value>, key: &str| {
        auth.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let who = [
        "auth_url",
        "project_id",
        "project_name",
        "user_id",
        "username",
        "application_credential_id",
    ]
    .map(|key| text(auth, key))
    .join(" ");
    if text(auth, "auth_url").is_empty() {
        return Err(wrong(format!("the cloud `{label}` has no `auth_url`")));
    }
    let region = entry
        .get("region_name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let account = format!("openstack {who} {region}");
    let kind = match entry.get("auth_type").and_then(Value::as_str) {
        Some("v3applicationcredential") => "v3applicationcredential",
        None if by_credential => "v3applicationcredential",
        None | Some("password" | "v3password") => "password",
        Some(other) => {
            let text = format!(
                "`auth_type: {other}` is not supported; use password or v3applicationcredential"
            );
            return Err(wrong(text));
        }
    };
    entry.insert("auth_type".into(), kind.into());
    // serde's message could hold a value.
    let config = serde_json::from_value(Value::Object(entry))
        .map_err(|_| wrong(format!("the cloud `{label}` has a value of the wrong type")))?;
    Ok(Credentials {
        label: label.to_owned(),
        account,
        config,
    })
}

#[cfg(test)]
mod tests;
