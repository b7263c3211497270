//! From the names in the configuration to ids.

use futures::TryStreamExt as _;
use openstack::Cloud;
use runner_manager_core::{Error, ErrorKind, Result};

use crate::session::translate;

/// A flavor, and what it takes of the quota.
#[derive(Debug, Clone)]
pub(crate) struct Flavor {
    pub(crate) id: String,
    pub(crate) cores: u64,
    pub(crate) ram_mib: u64,
}

/// The one of some things that a name or an id means.
fn choose<T>(
    key: &'static str,
    wanted: &str,
    all: Vec<T>,
    id_and_name: impl Fn(&T) -> (String, String),
) -> Result<T> {
    let wrong = |text: String| Error::new(ErrorKind::InvalidConfig, text).with_context("key", key);
    let (by_id, rest): (Vec<T>, Vec<T>) = all
        .into_iter()
        .partition(|thing| id_and_name(thing).0 == wanted);
    if let Some(thing) = by_id.into_iter().next() {
        return Ok(thing);
    }
    let (mut named, others): (Vec<T>, Vec<T>) = rest
        .into_iter()
        .partition(|thing| id_and_name(thing).1 == wanted);
    match (named.pop(), named.is_empty()) {
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            let ids: Vec<String> = named
                .iter()
                .chain([&last])
                .map(|thing| id_and_name(thing).0)
                .collect();
            Err(wrong(format!(
                "`{wanted}` names several: give one of the ids {}",
                ids.join(", ")
            )))
        }
        (None, _) => {
            let mut names: Vec<String> = others.iter().map(|thing| id_and_name(thing).1).collect();
            names.sort();
            names.truncate(20);
            let there = if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            };
            Err(wrong(format!("there is no `{wanted}`; there are: {there}")))
        }
    }
}

/// The id of an image.
pub(crate) async fn image(cloud: &Cloud, wanted: &str) -> Result<String> {
    let all = cloud.list_images().await.map_err(|e| translate(&e))?;
    let image = choose("image", wanted, all, |image| {
        (image.id().clone(), image.name().clone())
    })?;
    Ok(image.id().clone())
}

/// The id of a network; `key` is its key in the configuration.
pub(crate) async fn network(cloud: &Cloud, key: &'static str, wanted: &str) -> Result<String> {
    let all = cloud.list_networks().await.map_err(|e| translate(&e))?;
    let name = |network: &openstack::network::Network| {
        (
            network.id().clone(),
            network.name().clone().unwrap_or_default(),
        )
    };
    Ok(choose(key, wanted, all, name)?.id().clone())
}

/// A flavor.
pub(crate) async fn flavor(cloud: &Cloud, wanted: &str) -> Result<Flavor> {
    let all: Vec<_> = cloud
        .find_flavors()
        .detailed()
        .into_stream()
        .try_collect()
        .await
        .map_err(|e| translate(&e))?;
    let flavor = choose("flavor", wanted, all, |flavor| {
        (flavor.id().clone(), flavor.name().clone())
    })?;
    Ok(Flavor {
        id: flavor.id().clone(),
        cores: flavor.vcpu_count().into(),
        ram_mib: flavor.ram_size(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(wanted: &str) -> Result<(&'static str, &'static str)> {
        let all = vec![
            ("1", "jammy"),
            ("2", "noble"),
            ("3", "noble"),
            ("noble-id", "x"),
        ];
        choose("image", wanted, all, |(id, name)| {
            ((*id).to_owned(), (*name).to_owned())
        })
    }

    #[test]
    fn a_name_or_an_id_means_one_thing_or_is_an_error_with_the_candidates() {
        assert_eq!(pick("jammy").unwrap().0, "1");
        assert_eq!(pick("3").unwrap().0, "3");
        let several = pick("noble").unwrap_err();
        assert!(
            several.to_string().contains("give one of the ids 2, 3"),
            "{several}"
        );
        assert_eq!(several.context("key"), Some("image"));
        let none = pick("focal").unwrap_err().to_string();
        assert!(none.contains("there are: jammy, noble, noble, x"), "{none}");
    }
}
