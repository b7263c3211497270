//! The call that lets EC2 pick among types and subnets.

use aws_sdk_ec2::operation::create_fleet::CreateFleetInput;
use aws_sdk_ec2::operation::create_fleet::builders::CreateFleetInputBuilder;
use aws_sdk_ec2::types::{
    DefaultTargetCapacityType, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest,
    FleetOnDemandAllocationStrategy, FleetType, OnDemandOptionsRequest, SpotAllocationStrategy,
    SpotInstanceInterruptionBehavior, SpotOptionsRequest, TargetCapacitySpecificationRequest,
};

use super::{Order, client_token};
use crate::candidates::{Candidate, Market};
use crate::config::{Ec2Config, Strategy};
use crate::tags;

/// The call that launches one instance of whichever type and subnet fits the strategy best.
/// `user_data` is base64; it goes past the launch template, which all runners share.
pub(crate) fn fleet(
    order: Order<'_>,
    market: Market,
    template: &str,
    user_data: String,
) -> CreateFleetInputBuilder {
    let Order {
        name,
        config,
        generation,
        ..
    } = order;
    let of_runner = tags::of_runner(name, market.as_str(), &config.tags);
    let base = FleetLaunchTemplateSpecificationRequest::builder()
        .launch_template_name(template)
        .version("$Latest")
        .launch_template_specification_user_data(user_data);
    let choice = FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(base.build())
        .set_overrides(Some(overrides(config, market)));
    let (kind, on_demand, spot) = match market {
        Market::OnDemand => (DefaultTargetCapacityType::OnDemand, 1, 0),
        Market::Spot => (DefaultTargetCapacityType::Spot, 0, 1),
    };
    let capacity = TargetCapacitySpecificationRequest::builder()
        .total_target_capacity(1)
        .on_demand_target_capacity(on_demand)
        .spot_target_capacity(spot)
        .default_target_capacity_type(kind);
    let on_demand = OnDemandOptionsRequest::builder()
        .allocation_strategy(FleetOnDemandAllocationStrategy::LowestPrice);
    let spot = SpotOptionsRequest::builder()
        .allocation_strategy(allocation(config.strategy))
        .instance_interruption_behavior(SpotInstanceInterruptionBehavior::Terminate);
    CreateFleetInput::builder()
        .r#type(FleetType::Instant)
        .client_token(client_token(name, &Candidate::Fleet { market }, generation))
        .launch_template_configs(choice.build())
        .target_capacity_specification(capacity.build())
        .set_on_demand_options((market == Market::OnDemand).then(|| on_demand.build()))
        .set_spot_options((market == Market::Spot).then(|| spot.build()))
        .set_tag_specifications(Some(tags::specifications(&of_runner)))
}

fn overrides(config: &Ec2Config, market: Market) -> Vec<FleetLaunchTemplateOverridesRequest> {
    let price = (market == Market::Spot)
        .then(|| config.spot_max_price.clone())
        .flatten();
    let subnets: Vec<Option<String>> = match config.subnet_ids.as_slice() {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect(),
    };
    let mut all = Vec::new();
    for instance_type in &config.instance_types {
        all.extend(subnets.iter().map(|subnet| {
            FleetLaunchTemplateOverridesRequest::builder()
                .instance_type(instance_type.as_str().into())
                .set_subnet_id(subnet.clone())
                .set_max_price(price.clone())
                .build()
        }));
    }
    all
}

fn allocation(strategy: Strategy) -> SpotAllocationStrategy {
    match strategy {
        Strategy::Ordered | Strategy::LowestPrice => SpotAllocationStrategy::LowestPrice,
        Strategy::CapacityOptimized => SpotAllocationStrategy::CapacityOptimized,
        Strategy::PriceCapacityOptimized => SpotAllocationStrategy::PriceCapacityOptimized,
    }
}

#[cfg(test)]
mod tests {
    use runner_manager_core::{RunnerName, parse_section};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fleet_is_one_instance_of_many_choices() {
        let config: Ec2Config = parse_section(json!({
            "image": {"id": "ami-1"}, "instance_types": ["a", "b"], "subnet_ids": ["x", "y"],
            "strategy": "price_capacity_optimized", "purchase": "spot", "spot_max_price": "0.1",
        }))
        .expect("a section");
        let name: RunnerName = "app-0123456789ab".parse().expect("a name");
        let order = Order {
            name: &name,
            config: &config,
            image: None,
            generation: 0,
        };
        let call = fleet(order, Market::Spot, "t", "dXNlcg==".into());
        let call = call.build().expect("a whole request");
        assert_eq!(call.r#type, Some(FleetType::Instant));
        let spot = call.spot_options.expect("spot");
        let expected = SpotAllocationStrategy::PriceCapacityOptimized;
        assert_eq!(spot.allocation_strategy, Some(expected));
        assert_eq!(call.on_demand_options, None);
        let configs = call.launch_template_configs.expect("templates");
        let overrides = configs[0].overrides.as_ref().expect("overrides");
        assert_eq!(overrides.len(), 4);
        assert!(
            overrides
                .iter()
                .all(|o| o.max_price.as_deref() == Some("0.1"))
        );
        assert_eq!(call.tag_specifications.expect("tags").len(), 3);
        let capacity = call.target_capacity_specification.expect("capacity");
        assert_eq!(capacity.total_target_capacity, Some(1));
    }
}
