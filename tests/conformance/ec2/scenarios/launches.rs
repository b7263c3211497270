//! What a launch makes, as boto3 sees it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runner_manager_core::ErrorKind;
use serde_json::{Value, json};

use crate::site::{Site, text};
use crate::{pool, run, try_pool};

/// Of the instance that a pool with these keys launches: itself, and its root volume.
async fn launched(site: &Site, changes: Value) -> (Value, Value) {
    let pool = pool(site, changes).await;
    pool.create().await.expect("a launch");
    let instance = site.instances(pool.endpoint()).await.remove(0);
    let filters = json!([
        {"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]},
        {"Name": "tag:runner-manager:prefix", "Values": [pool.endpoint()]},
    ]);
    let volumes = site
        .ec2("describe_volumes", json!({"Filters": filters}))
        .await;
    (instance, volumes["Volumes"][0].clone())
}

async fn attribute(site: &Site, instance: &Value, attribute: &str) -> Value {
    let arguments = json!({"InstanceId": instance["InstanceId"], "Attribute": attribute});
    site.ec2("describe_instance_attribute", arguments).await
}

#[test]
fn an_instance_is_locked_down_marked_and_leaves_nothing() {
    run(async |site| {
        let root = json!({"size_gib": 30});
        let section =
            json!({"root_volume": root, "detailed_monitoring": true, "tags": {"team": "ci"}});
        let (instance, volume) = launched(site, section).await;
        assert_eq!(instance["MetadataOptions"]["HttpTokens"], "required");
        assert_eq!(instance["MetadataOptions"]["HttpPutResponseHopLimit"], 1);
        assert_eq!(instance["Monitoring"]["State"], "enabled");
        let behaviour = attribute(site, &instance, "instanceInitiatedShutdownBehavior").await;
        assert_eq!(
            behaviour["InstanceInitiatedShutdownBehavior"]["Value"],
            "terminate"
        );
        assert_eq!(volume["Encrypted"], true, "{volume}");
        assert_eq!(
            (&volume["VolumeType"], &volume["Size"]),
            (&json!("gp3"), &json!(30))
        );
        let root = &instance["BlockDeviceMappings"][0]["Ebs"];
        assert_eq!(root["DeleteOnTermination"], true, "{instance}");
        assert_eq!(
            crate::site::tag(&volume, "team").map(String::as_str),
            Some("ci")
        );
        assert_eq!(
            crate::site::tag(&instance, "team").map(String::as_str),
            Some("ci")
        );
    });
}

#[test]
fn groups_profile_and_key_reach_the_instance() {
    run(async |site| {
        let random = crate::site::prefix();
        let group = json!({"GroupName": random, "Description": "runners"});
        let group = text(&site.ec2("create_security_group", group).await["GroupId"]);
        site.ec2("create_key_pair", json!({"KeyName": random}))
            .await;
        let profile = json!({"InstanceProfileName": random});
        site.look("iam", "create_instance_profile", profile).await;
        let section = json!({
            "security_group_ids": [group], "key_name": random, "instance_profile": random,
        });
        let (instance, _) = launched(site, section).await;
        assert_eq!(instance["SecurityGroups"][0]["GroupId"], group);
        assert_eq!(instance["KeyName"], random.as_str());
        let profile = text(&instance["IamInstanceProfile"]["Arn"]);
        assert!(profile.ends_with(random.as_str()), "{profile}");
        let wrong = json!({"security_group_ids": ["sg-0123456789abcdef0"]});
        let error = try_pool(site, wrong).await.err().expect("no such group");
        assert_eq!(error.context("key"), Some("security_group_ids"), "{error}");
    });
}

#[test]
fn a_launch_template_is_a_base_and_the_section_wins() {
    run(async |site| {
        let name = crate::site::prefix();
        let data = json!({"ImageId": site.image, "InstanceType": "t3.micro"});
        let template = json!({"LaunchTemplateName": name, "LaunchTemplateData": data});
        site.ec2("create_launch_template", template).await;
        let base = json!({"name": name});
        let section = json!({"launch_template": base, "image": null, "instance_types": null});
        let (instance, _) = launched(site, section).await;
        assert_eq!(instance["InstanceType"], "t3.micro");
        assert_eq!(instance["ImageId"], site.image);
        assert_eq!(instance["MetadataOptions"]["HttpTokens"], "required");
        let (instance, _) = launched(site, json!({"launch_template": base})).await;
        assert_eq!(instance["InstanceType"], "m5.large");
        let missing = json!({"launch_template": {"name": "no-such-template"}});
        let error = try_pool(site, missing)
            .await
            .err()
            .expect("no such template");
        assert_eq!(error.context("key"), Some("launch_template"), "{error}");
    });
}

#[test]
fn an_image_is_found_by_name_and_owner_or_by_parameter_and_a_wrong_one_is_refused() {
    run(async |site| {
        let named = json!({"image": {"name": "ubuntu/images/*", "owner": "099720109477"}});
        let (instance, _) = launched(site, named).await;
        let newest = site.ec2("describe_images", json!({
            "Owners": ["099720109477"], "Filters": [{"Name": "name", "Values": ["ubuntu/images/*"]}],
        }));
        let newest = newest.await;
        let images = newest["Images"].as_array().expect("images");
        let date = |image: &&Value| text(&image["CreationDate"]);
        let last = images
            .iter()
            .map(|image| date(&image))
            .max()
            .expect("an image");
        let taken = images
            .iter()
            .find(|i| i["ImageId"] == instance["ImageId"])
            .expect("one of them");
        assert_eq!(date(&taken), last);

        let parameter = format!("/{}/image", crate::site::prefix());
        let value = json!({"Name": parameter, "Value": site.image, "Type": "String"});
        site.look("ssm", "put_parameter", value).await;
        let (instance, _) = launched(site, json!({"image": {"ssm_parameter": parameter}})).await;
        assert_eq!(instance["ImageId"], site.image);

        for image in [
            json!({"id": "ami-0123456789abcdef0"}),
            json!({"name": "no-such-image-*", "owner": "self"}),
            json!({"ssm_parameter": "/no/such/parameter"}),
        ] {
            let error = try_pool(site, json!({"image": image}))
                .await
                .err()
                .expect("no such image");
            let key = error.context("key").unwrap_or_default();
            assert!(key.starts_with("image"), "{error}");
        }
    });
}

#[test]
fn user_data_is_compressed_when_it_has_to_be_and_refused_when_that_is_not_enough() {
    run(async |site| {
        let script = format!(
            "#!/bin/sh\n{}",
            "echo 'many words that are alike'\n".repeat(1_000)
        );
        let (instance, _) = launched(site, json!({"boot": {"pre_job_script": script}})).await;
        let data = attribute(site, &instance, "userData").await;
        let data = STANDARD
            .decode(text(&data["UserData"]["Value"]))
            .expect("base64");
        assert_eq!(data[..2], [0x1f, 0x8b], "gzip");
        assert!(data.len() <= 16_384, "{} bytes", data.len());

        // A hash of each number: nothing that gzip makes small.
        use sha2::Digest;
        let noise = (0..500_u32).map(|n| STANDARD.encode(sha2::Sha256::digest(n.to_be_bytes())));
        let script = format!("#!/bin/sh\n# {}\n", noise.collect::<String>());
        let pool = pool(site, json!({"boot": {"pre_job_script": script}})).await;
        let before = site.proxy.calls(pool.endpoint(), Some("RunInstances"));
        let error = pool.create().await.expect_err("it is too large");
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert_eq!(error.context("limit"), Some("16384"), "{error}");
        assert_eq!(
            site.proxy.calls(pool.endpoint(), Some("RunInstances")),
            before
        );
    });
}

#[test]
fn a_role_can_be_assumed() {
    run(async |site| {
        let role =
            json!({"role_arn": "arn:aws:iam::123456789012:role/runners", "external_id": "x"});
        let pool = pool(site, json!({"assume_role": role})).await;
        pool.create().await.expect("a launch");
        assert_eq!(site.proxy.calls(pool.endpoint(), Some("AssumeRole")), 1);
    });
}
