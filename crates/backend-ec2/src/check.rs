//! What can be checked of an account before the first launch, without changing it.

use runner_manager_core::{Error, ErrorKind, Result, RunnerName};

use crate::api::is_dry_run;
use crate::candidates::{Candidate, Market};
use crate::cloud::Ec2Cloud;
use crate::config::LaunchTemplate;
use crate::request::{self, Order};

/// Looks for all that the section names, and asks whether a launch would be allowed.
pub(crate) async fn check(cloud: &Ec2Cloud) -> Result<()> {
    let image = cloud.images.current(&cloud.api).await?;
    subnets(cloud).await?;
    groups(cloud).await?;
    if let Some(template) = &cloud.config.launch_template {
        launch_template(cloud, template).await?;
    }
    let name: Result<RunnerName, _> = format!("{}-000000000000", cloud.prefix()).parse();
    let name = name.map_err(|error| Error::new(ErrorKind::Unexpected, error.to_string()))?;
    let order = Order {
        name: &name,
        config: &cloud.config,
        image: image.as_ref(),
        generation: 0,
    };
    let kind = cloud.config.instance_types.first();
    let subnet = cloud.config.subnet_ids.first();
    let candidate = Candidate::One {
        market: cloud
            .candidates
            .first()
            .map_or(Market::OnDemand, Candidate::market),
        instance_type: kind.cloned(),
        subnet: subnet.cloned(),
    };
    let (kind, subnet) = (kind.map(String::as_str), subnet.map(String::as_str));
    let call = request::run(order, &candidate, kind, subnet, String::new()).dry_run(true);
    let api = &cloud.api;
    let asked = api
        .call("RunInstances", || call.clone().send_with(&api.ec2))
        .await;
    match asked {
        Err(error) if !is_dry_run(&error) => {
            Err(error.with_context("asked", "whether a launch would be allowed"))
        }
        _ => Ok(()),
    }
}

/// Turns "not found" into a mistake of the section.
fn named<T>(outcome: Result<T>, key: &str) -> Result<T> {
    outcome.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidRequest => {
            let message = "names what is not there in this account and region";
            Error::new(ErrorKind::InvalidConfig, message)
                .with_context("key", key)
                .with_source(error)
        }
        _ => error.with_context("key", key),
    })
}

async fn subnets(cloud: &Ec2Cloud) -> Result<()> {
    let (api, ids) = (&cloud.api, &cloud.config.subnet_ids);
    if ids.is_empty() {
        return Ok(());
    }
    let call = || {
        api.ec2
            .describe_subnets()
            .set_subnet_ids(Some(ids.clone()))
            .send()
    };
    named(api.call("DescribeSubnets", call).await, "subnet_ids").map(|_| ())
}

async fn groups(cloud: &Ec2Cloud) -> Result<()> {
    let (api, ids) = (&cloud.api, &cloud.config.security_group_ids);
    if ids.is_empty() {
        return Ok(());
    }
    let call = || {
        api.ec2
            .describe_security_groups()
            .set_group_ids(Some(ids.clone()))
            .send()
    };
    named(
        api.call("DescribeSecurityGroups", call).await,
        "security_group_ids",
    )
    .map(|_| ())
}

async fn launch_template(cloud: &Ec2Cloud, template: &LaunchTemplate) -> Result<()> {
    let api = &cloud.api;
    let call = || {
        let call = api.ec2.describe_launch_template_versions();
        call.set_launch_template_id(template.id.clone())
            .set_launch_template_name(template.name.clone())
            .versions(&template.version)
            .send()
    };
    let found = named(
        api.call("DescribeLaunchTemplateVersions", call).await,
        "launch_template",
    )?;
    let versions = found.launch_template_versions.unwrap_or_default();
    let data = versions
        .into_iter()
        .next()
        .and_then(|version| version.launch_template_data);
    let Some(data) = data else {
        let message = "has no such version";
        return Err(Error::new(ErrorKind::InvalidConfig, message)
            .with_context("key", "launch_template.version"));
    };
    let config = &cloud.config;
    for (key, is_named) in [
        ("image", config.image.is_some() || data.image_id.is_some()),
        (
            "instance_types",
            !config.instance_types.is_empty() || data.instance_type.is_some(),
        ),
    ] {
        if !is_named {
            let message = "is missing, and the launch template names none either";
            return Err(Error::new(ErrorKind::InvalidConfig, message).with_context("key", key));
        }
    }
    Ok(())
}
