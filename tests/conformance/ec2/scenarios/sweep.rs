//! What is left without an instance.

use futures::StreamExt;
use runner_manager_core::InstanceId;
use serde_json::{Value, json};

use crate::site::{mark, text};
use crate::{pool, run, token};

#[test]
fn orphans_of_every_kind_go_and_those_of_others_stay() {
    run(async |site| {
        let pool = pool(site, json!({})).await;
        let ours = pool.name(&InstanceId::random());
        let longer = format!("{}0", pool.endpoint());
        let theirs = format!("{longer}-{}", InstanceId::random())
            .parse()
            .expect("a name");
        let mut kept = Vec::new();
        for name in [&ours, &theirs] {
            let tags = |kind: &str| json!([{"ResourceType": kind, "Tags": mark(name)}]);
            let zone = site
                .ec2("describe_subnets", json!({"SubnetIds": [site.subnets[0]]}))
                .await;
            let zone = &zone["Subnets"][0]["AvailabilityZone"];
            let volume = site.ec2(
                "create_volume",
                json!({
                    "AvailabilityZone": zone, "Size": 1, "TagSpecifications": tags("volume"),
                }),
            );
            kept.push((
                "describe_volumes",
                "VolumeIds",
                text(&volume.await["VolumeId"]),
            ));
            let interface = site.ec2(
                "create_network_interface",
                json!({
                    "SubnetId": site.subnets[0], "TagSpecifications": tags("network-interface"),
                }),
            );
            let interface = text(&interface.await["NetworkInterface"]["NetworkInterfaceId"]);
            kept.push((
                "describe_network_interfaces",
                "NetworkInterfaceIds",
                interface,
            ));
            let key = site.ec2(
                "create_key_pair",
                json!({
                    "KeyName": name.to_string(), "TagSpecifications": tags("key-pair"),
                }),
            );
            assert!(key.await["KeyPairId"].is_string());
            kept.push(("describe_key_pairs", "KeyNames", name.to_string()));
            let group = site.ec2(
                "create_security_group",
                json!({
                    "GroupName": name.to_string(), "Description": "left",
                    "TagSpecifications": tags("security-group"),
                }),
            );
            kept.push((
                "describe_security_groups",
                "GroupIds",
                text(&group.await["GroupId"]),
            ));
        }
        for _ in 0..2 {
            let errors: Vec<_> = pool
                .manager
                .cleanup(&token())
                .filter_map(async |r| r.err())
                .collect()
                .await;
            assert!(errors.is_empty(), "{errors:?}");
        }
        for (index, (call, key, id)) in kept.into_iter().enumerate() {
            let found = site.look("ec2", call, json!({key: [id]})).await;
            let is_gone = found.get("error").is_some_and(Value::is_string) || is_empty(&found);
            assert_eq!(is_gone, index < 4, "{call} {id}: {found}");
        }
    });
}

fn is_empty(found: &Value) -> bool {
    let lists = found
        .as_object()
        .expect("a table")
        .values()
        .filter_map(Value::as_array);
    lists.map(Vec::len).sum::<usize>() == 0
}

#[test]
fn a_volume_that_outlives_its_instance_is_swept() {
    run(async |site| {
        let volume = json!({"size_gib": 1, "delete_on_termination": false});
        let section = json!({"data_volumes": [{"device": "/dev/sdf", "volume": volume}]});
        let pool = pool(site, section).await;
        let id = pool.create().await.expect("a launch");
        let filters = json!([{"Name": "tag:runner-manager:prefix", "Values": [pool.endpoint()]}]);
        let volumes = async || {
            let found = site
                .ec2("describe_volumes", json!({"Filters": filters}))
                .await;
            found["Volumes"].as_array().expect("volumes").len()
        };
        assert_eq!(volumes().await, 2);
        pool.manager
            .delete_runner(&id, &token())
            .await
            .expect("a delete");
        let cleaned: Vec<_> = pool.manager.cleanup(&token()).collect().await;
        assert!(cleaned.is_empty(), "{cleaned:?}");
        assert_eq!(volumes().await, 0);
    });
}
