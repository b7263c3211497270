//! The launch template that fleets need: all of a pool that is the same for each runner.

use aws_sdk_ec2::types::{
    LaunchTemplateHttpTokensState, LaunchTemplateIamInstanceProfileSpecificationRequest,
    LaunchTemplateInstanceMetadataEndpointState, LaunchTemplateInstanceMetadataOptionsRequest,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, LaunchTemplatesMonitoringRequest,
    RequestLaunchTemplateData, ShutdownBehavior,
};
use runner_manager_core::NamePrefix;
use sha2::{Digest, Sha256};

use super::{HOP_LIMIT, devices};
use crate::config::Ec2Config;
use crate::image::Resolved;

/// A launch template of the manager's own. Its name follows from its content, so that making it
/// twice is making it once.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    /// `runner-manager-{prefix}-{digest}`.
    pub(crate) name: String,
    /// The content.
    pub(crate) data: RequestLaunchTemplateData,
}

/// The template of a pool. It holds no user-data: that is each runner's own.
pub(crate) fn template(
    prefix: &NamePrefix,
    config: &Ec2Config,
    image: Option<&Resolved>,
) -> Template {
    let metadata = LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_endpoint(LaunchTemplateInstanceMetadataEndpointState::Enabled)
        .http_tokens(LaunchTemplateHttpTokensState::Required)
        .http_put_response_hop_limit(HOP_LIMIT);
    let monitoring = LaunchTemplatesMonitoringRequest::builder()
        .enabled(true)
        .build();
    let groups = (!config.security_group_ids.is_empty()).then(|| config.security_group_ids.clone());
    let data = RequestLaunchTemplateData::builder()
        .set_image_id(image.map(|image| image.id.clone()))
        .set_iam_instance_profile(config.instance_profile.as_deref().map(profile))
        .set_key_name(config.key_name.clone())
        .set_block_device_mappings(devices::of_template(config, image))
        .set_monitoring(config.detailed_monitoring.then_some(monitoring))
        .metadata_options(metadata.build())
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate);
    let data = match config.public_address {
        None => data.set_security_group_ids(groups),
        Some(public) => data.network_interfaces(
            LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
                .device_index(0)
                .delete_on_termination(true)
                .associate_public_ip_address(public)
                .set_groups(groups)
                .build(),
        ),
    };
    let data = data.build();
    let digest = Sha256::digest(format!("{data:?}"));
    let digest: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Template {
        name: format!("runner-manager-{prefix}-{digest}"),
        data,
    }
}

fn profile(profile: &str) -> LaunchTemplateIamInstanceProfileSpecificationRequest {
    let builder = LaunchTemplateIamInstanceProfileSpecificationRequest::builder();
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

    #[test]
    fn the_name_follows_from_the_content() {
        let prefix = NamePrefix::new("app").expect("a prefix");
        let make = |more: bool| {
            let config: Ec2Config = parse_section(json!({
                "image": {"id": "ami-1"}, "instance_types": ["a", "b"],
                "strategy": "lowest_price", "detailed_monitoring": more,
            }))
            .expect("a section");
            template(&prefix, &config, None)
        };
        assert_eq!(make(false).name, make(false).name);
        assert_ne!(make(false).name, make(true).name);
        assert!(make(true).data.user_data.is_none());
        let metadata = make(true).data.metadata_options.expect("options");
        assert_eq!(metadata.http_put_response_hop_limit, Some(1));
    }
}
