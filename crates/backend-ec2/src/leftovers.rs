//! What is the manager's and has no instance any more: volumes, network interfaces, key pairs,
//! security groups.

use aws_sdk_ec2::types::{Filter, Tag};
use jiff::Timestamp;
use runner_manager_core::{ErrorKind, Leftover, NamePrefix, Result};

use crate::api::Api;
use crate::instances::{filter, timestamp};
use crate::tags;

/// The most things that one call lists; what is beyond waits for the next sweep.
const PAGE: i32 = 500;

const VOLUME: &str = "volume";
const INTERFACE: &str = "network interface";
const KEY_PAIR: &str = "key pair";
const GROUP: &str = "security group";

/// Things that were found: whose they are is to be seen from their tags.
struct Found {
    kind: &'static str,
    id: Option<String>,
    tags: Vec<Tag>,
    created_at: Option<Timestamp>,
}

/// What is marked as a prefix's and is attached to nothing. Whether its runner has an instance
/// is for the caller to see.
pub(crate) async fn find(api: &Api, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
    let mark = filter(&format!("tag:{}", tags::PREFIX), [prefix.to_string()]);
    let (volumes, interfaces, keys, groups) = futures::try_join!(
        volumes(api, &mark),
        interfaces(api, &mark),
        key_pairs(api, &mark),
        groups(api, &mark),
    )?;
    let all = volumes
        .into_iter()
        .chain(interfaces)
        .chain(keys)
        .chain(groups);
    let left = all.filter_map(|found| {
        Some(Leftover {
            kind: found.kind,
            id: found.id?,
            name: tags::owner(&found.tags, prefix)?,
            created_at: found.created_at,
        })
    });
    Ok(left.collect())
}

/// Detached volumes: what is attached goes with its instance.
async fn volumes(api: &Api, mark: &Filter) -> Result<Vec<Found>> {
    let free = filter("status", ["available".to_owned(), "error".to_owned()]);
    let answer = api
        .call("DescribeVolumes", || {
            let call = api.ec2.describe_volumes().max_results(PAGE);
            call.filters(mark.clone()).filters(free.clone()).send()
        })
        .await?;
    let found = answer
        .volumes
        .unwrap_or_default()
        .into_iter()
        .map(|volume| Found {
            kind: VOLUME,
            id: volume.volume_id,
            tags: volume.tags.unwrap_or_default(),
            created_at: volume.create_time.as_ref().map(timestamp),
        });
    Ok(found.collect())
}

async fn interfaces(api: &Api, mark: &Filter) -> Result<Vec<Found>> {
    let free = filter("status", ["available".to_owned()]);
    let answer = api
        .call("DescribeNetworkInterfaces", || {
            let call = api.ec2.describe_network_interfaces().max_results(PAGE);
            call.filters(mark.clone()).filters(free.clone()).send()
        })
        .await?;
    let found = answer.network_interfaces.unwrap_or_default().into_iter();
    let found = found.map(|interface| Found {
        kind: INTERFACE,
        id: interface.network_interface_id,
        tags: interface.tag_set.unwrap_or_default(),
        created_at: None,
    });
    Ok(found.collect())
}

async fn key_pairs(api: &Api, mark: &Filter) -> Result<Vec<Found>> {
    let answer = api
        .call("DescribeKeyPairs", || {
            api.ec2.describe_key_pairs().filters(mark.clone()).send()
        })
        .await?;
    let found = answer
        .key_pairs
        .unwrap_or_default()
        .into_iter()
        .map(|pair| Found {
            kind: KEY_PAIR,
            id: pair.key_pair_id,
            tags: pair.tags.unwrap_or_default(),
            created_at: pair.create_time.as_ref().map(timestamp),
        });
    Ok(found.collect())
}

async fn groups(api: &Api, mark: &Filter) -> Result<Vec<Found>> {
    let answer = api
        .call("DescribeSecurityGroups", || {
            let call = api.ec2.describe_security_groups().max_results(PAGE);
            call.filters(mark.clone()).send()
        })
        .await?;
    let found = answer.security_groups.unwrap_or_default().into_iter();
    let found = found.map(|group| Found {
        kind: GROUP,
        id: group.group_id,
        tags: group.tags.unwrap_or_default(),
        created_at: None,
    });
    Ok(found.collect())
}

/// Removes one thing. EC2 refuses what is in use.
pub(crate) async fn remove(api: &Api, leftover: &Leftover) -> Result<()> {
    let (ec2, id) = (&api.ec2, leftover.id.as_str());
    let outcome = match leftover.kind {
        VOLUME => {
            let call = || ec2.delete_volume().volume_id(id).send();
            api.call("DeleteVolume", call).await.map(|_| ())
        }
        INTERFACE => {
            let call = || {
                ec2.delete_network_interface()
                    .network_interface_id(id)
                    .send()
            };
            api.call("DeleteNetworkInterface", call).await.map(|_| ())
        }
        KEY_PAIR => {
            let call = || ec2.delete_key_pair().key_pair_id(id).send();
            api.call("DeleteKeyPair", call).await.map(|_| ())
        }
        _ => {
            let call = || ec2.delete_security_group().group_id(id).send();
            api.call("DeleteSecurityGroup", call).await.map(|_| ())
        }
    };
    match outcome {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
