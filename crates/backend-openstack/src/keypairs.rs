//! Nova's key pairs: one per runner, of which Nova knows the public half.
//!
//! A key pair has neither tags nor a description. Its proof of ownership is its name together
//! with the comment of its public key, which names runner and manager.

use runner_manager_core::{Error, ErrorKind, NamePrefix, Result, RunnerName};
use serde_json::{Value, json};

use crate::mark::comment;
use crate::servers::pages;
use crate::session::{Api, Request, Service, Verb};

const PATH: &str = "os-keypairs";

fn request(verb: Verb, path: &[&str]) -> Request {
    Request::new(Service::Compute, verb, path)
}

/// Uploads a public key, unless it is there already.
pub(crate) async fn ensure(api: &Api, name: &RunnerName, public: &str) -> Result<()> {
    let name = name.to_string();
    let body = json!({"keypair": {"name": name, "type": "ssh", "public_key": public}});
    match api.send(&request(Verb::Post, &[PATH]).body(body)).await {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let there = api.find(&request(Verb::Get, &[PATH, &name])).await?;
            let there = there
                .as_ref()
                .and_then(|a| a.pointer("/keypair/public_key")?.as_str());
            if there.map(str::trim) == Some(public.trim()) {
                return Ok(());
            }
            let text = "there is another key pair of the runner's name";
            Err(Error::new(ErrorKind::AlreadyExists, text).with_context("key pair", name))
        }
        outcome => outcome.map(drop),
    }
}

/// Removes a key pair. One that is gone already is `Ok`.
pub(crate) async fn delete(api: &Api, name: &RunnerName) -> Result<()> {
    api.find(&request(Verb::Delete, &[PATH, &name.to_string()]))
        .await
        .map(drop)
}

/// The runners of a prefix that have a key pair of this manager's.
pub(crate) async fn list(api: &Api, prefix: &NamePrefix) -> Result<Vec<RunnerName>> {
    let found = pages(
        api,
        request(Verb::Get, &[PATH]),
        "keypairs",
        "/keypair/name",
    )
    .await?;
    Ok(found
        .iter()
        .filter_map(|pair| owned(pair, prefix))
        .collect())
}

fn owned(pair: &Value, prefix: &NamePrefix) -> Option<RunnerName> {
    let name = prefix.owned(pair.pointer("/keypair/name")?.as_str()?)?;
    let public = pair.pointer("/keypair/public_key")?.as_str()?;
    (public.split_whitespace().nth(2) == Some(&comment(&name))).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_pair_is_proven_by_its_name_and_the_comment_of_its_key() {
        let app = NamePrefix::new("app").unwrap();
        let pair = |name: &str, key: &str| json!({"keypair": {"name": name, "public_key": key}});
        let name = "app-0123456789ab";
        assert!(
            owned(
                &pair(name, "ssh-ed25519 AAAA runner-manager:app-0123456789ab\n"),
                &app
            )
            .is_some()
        );
        for (name, key) in [
            (name, "ssh-ed25519 AAAA"),
            (name, "ssh-ed25519 AAAA me@laptop"),
            (name, "ssh-ed25519 AAAA runner-manager:app-ffffffffffff"),
            (
                "app-10-0123456789ab",
                "ssh-ed25519 AAAA runner-manager:app-10-0123456789ab",
            ),
        ] {
            assert!(owned(&pair(name, key), &app).is_none(), "{name} {key}");
        }
    }
}
