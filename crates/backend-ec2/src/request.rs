//! From a pool's section to the calls that launch: pure functions.

mod devices;
mod fleet;
mod template;

pub(crate) use fleet::fleet;
pub(crate) use template::template;

use aws_sdk_ec2::operation::run_instances::RunInstancesInput;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesInputBuilder;
use aws_sdk_ec2::types::{
    HttpTokensState, IamInstanceProfileSpecification, InstanceInterruptionBehavior,
    InstanceMarketOptionsRequest, InstanceMetadataEndpointState, InstanceMetadataOptionsRequest,
    InstanceNetworkInterfaceSpecification, LaunchTemplateSpecification, MarketType,
    RunInstancesMonitoringEnabled, ShutdownBehavior, SpotInstanceType, SpotMarketOptions,
};
use runner_manager_core::RunnerName;
use sha2::{Digest, Sha256};

use crate::candidates::{Candidate, Market};
use crate::config::{Ec2Config, LaunchTemplate};
use crate::image::Resolved;
use crate::tags;

/// How far an answer of the metadata service may travel: not into a container.
const HOP_LIMIT: i32 = 1;

/// What one launch is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    /// The runner.
    pub(crate) name: &'a RunnerName,
    /// The pool.
    pub(crate) config: &'a Ec2Config,
    /// The image; `None` where the launch template names it.
    pub(crate) image: Option<&'a Resolved>,
    /// How many instances of this name have ended.
    pub(crate) generation: u32,
}

/// What makes a repeated call the same call: one token for a runner and what is asked for.
/// `generation` counts the instances of this name that have ended. EC2 takes at most 64
/// characters.
pub(crate) fn client_token(name: &RunnerName, candidate: &Candidate, generation: u32) -> String {
    let text = format!("{name} {candidate:?} {generation}");
    let digest: String = Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    digest[..48].to_owned()
}

/// The call that launches one instance. `user_data` is base64.
pub(crate) fn run(
    order: Order<'_>,
    candidate: &Candidate,
    instance_type: Option<&str>,
    subnet: Option<&str>,
    user_data: String,
) -> RunInstancesInputBuilder {
    let Order {
        name,
        config,
        image,
        generation,
    } = order;
    let market = candidate.market();
    let of_runner = tags::of_runner(name, market.as_str(), &config.tags);
    let call = RunInstancesInput::builder()
        .min_count(1)
        .max_count(1)
        .client_token(client_token(name, candidate, generation))
        .user_data(user_data)
        .set_image_id(image.map(|image| image.id.clone()))
        .set_instance_type(instance_type.map(Into::into))
        .set_launch_template(config.launch_template.as_ref().map(base))
        .set_iam_instance_profile(config.instance_profile.as_deref().map(profile))
        .set_key_name(config.key_name.clone())
        .set_block_device_mappings(devices::of_instance(config, image))
        .metadata_options(metadata())
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
        .set_instance_market_options(spot(config, market))
        .set_tag_specifications(Some(tags::specifications(&of_runner)));
    let call = if config.detailed_monitoring {
        call.monitoring(
            RunInstancesMonitoringEnabled::builder()
                .enabled(true)
                .build(),
        )
    } else {
        call
    };
    network(call, config, subnet)
}

/// Subnet, groups and address. EC2 takes an address only with a network interface, and then the
/// others only with it too.
fn network(
    call: RunInstancesInputBuilder,
    config: &Ec2Config,
    subnet: Option<&str>,
) -> RunInstancesInputBuilder {
    let groups = (!config.security_group_ids.is_empty()).then(|| config.security_group_ids.clone());
    let subnet = subnet.map(str::to_owned);
    match config.public_address {
        None => call.set_security_group_ids(groups).set_subnet_id(subnet),
        Some(public) => call.network_interfaces(
            InstanceNetworkInterfaceSpecification::builder()
                .device_index(0)
                .delete_on_termination(true)
                .associate_public_ip_address(public)
                .set_groups(groups)
                .set_subnet_id(subnet)
                .build(),
        ),
    }
}

fn metadata() -> InstanceMetadataOptionsRequest {
    InstanceMetadataOptionsRequest::builder()
        .http_endpoint(InstanceMetadataEndpointState::Enabled)
        .http_tokens(HttpTokensState::Required)
        .http_put_response_hop_limit(HOP_LIMIT)
        .build()
}

fn spot(config: &Ec2Config, market: Market) -> Option<InstanceMarketOptionsRequest> {
    let options = SpotMarketOptions::builder()
        .spot_instance_type(SpotInstanceType::OneTime)
        .instance_interruption_behavior(InstanceInterruptionBehavior::Terminate)
        .set_max_price(config.spot_max_price.clone());
    let request = InstanceMarketOptionsRequest::builder()
        .market_type(MarketType::Spot)
        .spot_options(options.build());
    (market == Market::Spot).then(|| request.build())
}

fn base(template: &LaunchTemplate) -> LaunchTemplateSpecification {
    LaunchTemplateSpecification::builder()
        .set_launch_template_id(template.id.clone())
        .set_launch_template_name(template.name.clone())
        .version(&template.version)
        .build()
}

/// By ARN or by name.
fn profile(profile: &str) -> IamInstanceProfileSpecification {
    let builder = IamInstanceProfileSpecification::builder();
    if profile.starts_with("arn:") {
        builder.arn(profile).build()
    } else {
        builder.name(profile).build()
    }
}

#[cfg(test)]
mod tests {
    use runner_manager_core::parse_section;
    use serde_json::json;

    use super::*;

    fn name() -> RunnerName {
        "app-0123456789ab".parse().expect("a name")
    }

    fn launch(section: serde_json::Value, market: Market) -> RunInstancesInput {
        let config: Ec2Config = parse_section(section).expect("a section");
        let image = config.image.as_ref().map(|_| Resolved {
            id: "ami-1".into(),
            root_device: Some("/dev/sda1".into()),
            root_size: Some(8),
        });
        let name = name();
        let order = Order {
            name: &name,
            config: &config,
            image: image.as_ref(),
            generation: 0,
        };
        let candidate = Candidate::One {
            market,
            instance_type: Some("m7i.large".into()),
            subnet: Some("subnet-1".into()),
        };
        run(
            order,
            &candidate,
            Some("m7i.large"),
            Some("subnet-1"),
            "dXNlcg==".into(),
        )
        .build()
        .expect("a whole request")
    }

    #[test]
    fn the_smallest_section_launches_safely() {
        let call = launch(
            json!({"image": {"id": "ami-1"}, "instance_types": ["m7i.large"]}),
            Market::OnDemand,
        );
        assert_eq!((call.min_count, call.max_count), (Some(1), Some(1)));
        assert_eq!(
            call.instance_initiated_shutdown_behavior,
            Some(ShutdownBehavior::Terminate)
        );
        let metadata = call.metadata_options.expect("options");
        assert_eq!(metadata.http_tokens, Some(HttpTokensState::Required));
        assert_eq!(metadata.http_put_response_hop_limit, Some(1));
        assert_eq!(call.instance_market_options, None);
        assert_eq!(call.subnet_id.as_deref(), Some("subnet-1"));
        let root = &call.block_device_mappings.expect("devices")[0];
        let ebs = root.ebs.as_ref().expect("a volume");
        assert_eq!(ebs.volume_size, Some(8), "that of the image");
        assert_eq!(
            (ebs.encrypted, ebs.delete_on_termination),
            (Some(true), Some(true))
        );
        let specifications = call.tag_specifications.expect("tags");
        assert_eq!(specifications.len(), 3);
        for specification in specifications {
            let tags = specification.tags.expect("tags");
            let prefix = name().prefix().clone();
            assert_eq!(tags::owner(&tags, &prefix), Some(name()));
        }
    }

    #[test]
    fn everything_of_a_section_reaches_the_call() {
        let call = launch(
            json!({
                "image": {"id": "ami-1"}, "instance_types": ["m7i.large"],
                "launch_template": {"name": "base", "version": "3"},
                "security_group_ids": ["sg-1"], "public_address": false,
                "instance_profile": "arn:aws:iam::1:instance-profile/p", "key_name": "k",
                "detailed_monitoring": true, "tags": {"team": "ci"},
                "purchase": "spot", "spot_max_price": "0.05",
                "data_volumes": [{"device": "/dev/sdf", "volume": {"size_gib": 10}}],
            }),
            Market::Spot,
        );
        let spot = call
            .instance_market_options
            .expect("spot")
            .spot_options
            .expect("options");
        assert_eq!(spot.max_price.as_deref(), Some("0.05"));
        assert_eq!(spot.spot_instance_type, Some(SpotInstanceType::OneTime));
        let interface = &call.network_interfaces.expect("interfaces")[0];
        assert_eq!(interface.associate_public_ip_address, Some(false));
        assert_eq!(interface.subnet_id.as_deref(), Some("subnet-1"));
        assert_eq!((call.subnet_id, call.security_group_ids), (None, None));
        assert_eq!(call.key_name.as_deref(), Some("k"));
        assert!(call.iam_instance_profile.expect("profile").arn.is_some());
        assert!(call.monitoring.is_some());
        assert_eq!(
            call.launch_template.expect("template").version.as_deref(),
            Some("3")
        );
        let devices = call.block_device_mappings.expect("devices");
        assert_eq!(
            devices.len(),
            1,
            "the template says what the root volume is"
        );
    }

    #[test]
    fn a_repeated_call_is_the_same_and_another_is_not() {
        let one = |market, subnet: &str| Candidate::One {
            market,
            instance_type: None,
            subnet: Some(subnet.into()),
        };
        let token = |candidate: &Candidate| client_token(&name(), candidate, 0);
        let first = token(&one(Market::Spot, "a"));
        assert_eq!(first, token(&one(Market::Spot, "a")));
        assert_ne!(first, token(&one(Market::OnDemand, "a")));
        assert_ne!(first, token(&one(Market::Spot, "b")));
        assert!(first.len() <= 64);
    }
}
