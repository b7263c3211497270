//! EC2 has none of what is asked for.

use runner_manager_core::{Effect, ErrorKind, Retry};
use serde_json::json;

use crate::proxy::{Rule, What};
use crate::site::tag;
use crate::{pool, run};

const SCARCE: What = What::Refuse(500, "InsufficientInstanceCapacity");
const SPOT: &str = "InstanceMarketOptions.MarketType=spot";

#[test]
fn the_next_type_or_subnet_is_taken_and_the_scarce_one_comes_last_for_a_while() {
    run(async |site| {
        let subnets = &site.subnets[..2];
        let types = ["m5.large", "c5.large"];
        let pool = pool(
            site,
            json!({"instance_types": types, "subnet_ids": subnets}),
        )
        .await;
        let scarce = Rule::of("RunInstances", SCARCE).when("InstanceType=m5.large");
        site.proxy.plant(pool.endpoint(), scarce);
        pool.create().await.expect("the other type has capacity");
        let launched = site.instances(pool.endpoint()).await;
        assert_eq!(launched[0]["InstanceType"], "c5.large");
        assert_eq!(launched[0]["SubnetId"], subnets[0]);
        let before = site.proxy.calls(pool.endpoint(), Some("RunInstances"));
        pool.create().await.expect("the other type has capacity");
        let calls = site.proxy.calls(pool.endpoint(), Some("RunInstances")) - before;
        assert_eq!(
            calls, 1,
            "the types that lacked capacity a moment ago come last"
        );
    });
}

#[test]
fn without_any_capacity_the_launch_fails_leaves_nothing_and_says_when_to_try_again() {
    run(async |site| {
        let pool = pool(site, json!({"instance_types": ["m5.large", "c5.large"]})).await;
        site.proxy
            .plant(pool.endpoint(), Rule::of("RunInstances", SCARCE));
        let error = pool.create().await.expect_err("there is no capacity");
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::NoCapacity, Effect::None)
        );
        assert!(matches!(error.retry(), Retry::After(_)), "{error:?}");
        assert_eq!(site.instances(pool.endpoint()).await.len(), 0);
    });
}

#[test]
fn spot_gives_way_to_on_demand_for_each_of_its_shortages() {
    run(async |site| {
        for code in [
            "InsufficientInstanceCapacity",
            "SpotMaxPriceTooLow",
            "MaxSpotInstanceCountExceeded",
        ] {
            let pool = pool(site, json!({"purchase": "spot_then_on_demand"})).await;
            let rule = Rule::of("RunInstances", What::Refuse(400, code)).when(SPOT);
            site.proxy.plant(pool.endpoint(), rule);
            pool.create().await.expect("on demand has capacity");
            let launched = site.instances(pool.endpoint()).await;
            assert_eq!(launched.len(), 1, "{code}");
            let bought = tag(&launched[0], "runner-manager:purchase");
            assert_eq!(bought.map(String::as_str), Some("on-demand"), "{code}");
            assert!(launched[0].get("InstanceLifecycle").is_none(), "{code}");
        }
    });
}

#[test]
fn spot_alone_does_not_become_on_demand() {
    run(async |site| {
        let pool = pool(site, json!({"purchase": "spot"})).await;
        let once = Rule::of("RunInstances", SCARCE).when(SPOT).times(1);
        site.proxy.plant(pool.endpoint(), once);
        let error = pool.create().await.expect_err("there is no spot capacity");
        assert_eq!(error.kind(), ErrorKind::NoCapacity);
        pool.create().await.expect("there is spot capacity again");
        let launched = site.instances(pool.endpoint()).await;
        assert_eq!(launched[0]["InstanceLifecycle"], "spot");
    });
}

#[test]
fn a_fleet_picks_what_has_capacity() {
    run(async |site| {
        let section = json!({
            "instance_types": ["m5.large", "c5.large"],
            "subnet_ids": site.subnets[..2],
            "strategy": "price_capacity_optimized",
            "purchase": "spot_then_on_demand",
        });
        let pool = pool(site, section).await;
        let scarce = Rule::of("RunInstances", SCARCE).when("InstanceType=m5.large");
        site.proxy.plant(pool.endpoint(), scarce);
        let id = pool.create().await.expect("the other type has capacity");
        let launched = site.instances(pool.endpoint()).await;
        assert_eq!(launched.len(), 1);
        assert_eq!(launched[0]["InstanceType"], "c5.large");
        assert_eq!(tag(&launched[0], "Name"), Some(&pool.name(&id).to_string()));
        site.proxy
            .plant(pool.endpoint(), Rule::of("RunInstances", SCARCE).when(SPOT));
        site.proxy.mend(pool.endpoint());
        site.proxy
            .plant(pool.endpoint(), Rule::of("RunInstances", SCARCE).when(SPOT));
        let id = pool.create().await.expect("on demand has capacity");
        let name = pool.name(&id).to_string();
        let launched = site.instances(pool.endpoint()).await;
        let launched = launched
            .iter()
            .find(|i| tag(i, "Name") == Some(&name))
            .expect("it is there");
        let bought = tag(launched, "runner-manager:purchase").map(String::as_str);
        assert_eq!(bought, Some("on-demand"));
        site.proxy
            .plant(pool.endpoint(), Rule::of("RunInstances", SCARCE));
        let error = pool.create().await.expect_err("there is no capacity");
        assert_eq!(error.kind(), ErrorKind::NoCapacity, "{error:?}");
        assert_eq!(site.instances(pool.endpoint()).await.len(), 2);
    });
}

#[test]
fn a_launch_template_that_vanished_is_made_anew() {
    run(async |site| {
        let section = json!({
            "instance_types": ["m5.large", "c5.large"], "strategy": "lowest_price",
        });
        let pool = pool(site, section).await;
        pool.create().await.expect("a launch");
        let prefix = pool.endpoint();
        let filters = json!([{"Name": "tag:runner-manager:prefix", "Values": [prefix]}]);
        let found = site
            .ec2("describe_launch_templates", json!({"Filters": filters}))
            .await;
        let templates = found["LaunchTemplates"].as_array().expect("templates");
        assert_eq!(templates.len(), 1, "{found}");
        let name = &templates[0]["LaunchTemplateName"];
        site.ec2(
            "delete_launch_template",
            json!({"LaunchTemplateName": name}),
        )
        .await;
        pool.create().await.expect_err("the template is gone");
        pool.create().await.expect("it is made anew");
    });
}
