//! The manager's own launch template, which fleets need.

use std::time::Duration;

use aws_sdk_ec2::types::{LaunchTemplate, ResourceType, TagSpecification};
use jiff::Timestamp;
use runner_manager_core::{ErrorKind, NamePrefix, Result};
use tokio::sync::Mutex;

use crate::api::Api;
use crate::config::Ec2Config;
use crate::image::Resolved;
use crate::instances::{filter, timestamp};
use crate::{request, tags};

/// How old a template of other content must be before it is removed: another manager of the
/// prefix may still be about to use it, and makes it anew should it be gone.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// The most versions of a template's content that are looked at.
const MOST: i32 = 200;

/// The template of a pool.
pub(crate) struct Templates {
    prefix: NamePrefix,
    config: Ec2Config,
    /// The name of the one that is known to exist.
    made: Mutex<Option<String>>,
}

impl Templates {
    pub(crate) fn new(prefix: NamePrefix, config: Ec2Config) -> Self {
        Self {
            prefix,
            config,
            made: Mutex::default(),
        }
    }

    /// The name of the template for an image, made when it is not there.
    pub(crate) async fn current(&self, api: &Api, image: Option<&Resolved>) -> Result<String> {
        let wanted = request::template(&self.prefix, &self.config, image);
        let mut made = self.made.lock().await;
        if made.as_ref() == Some(&wanted.name) {
            return Ok(wanted.name);
        }
        let marks = TagSpecification::builder()
            .resource_type(ResourceType::LaunchTemplate)
            .tags(tags::tag(tags::PREFIX, self.prefix.as_str()));
        let marks = marks.build();
        let outcome = api
            .call("CreateLaunchTemplate", || {
                api.ec2
                    .create_launch_template()
                    .launch_template_name(&wanted.name)
                    .launch_template_data(wanted.data.clone())
                    .tag_specifications(marks.clone())
                    .send()
            })
            .await;
        match outcome {
            Ok(_) => {}
            // Its name follows from its content.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if let Err(error) = self.remove_old(api, &wanted.name).await {
            tracing::warn!(%error, "cannot remove old launch templates");
        }
        *made = Some(wanted.name.clone());
        Ok(wanted.name)
    }

    /// Makes the template anew at the next launch: it is gone.
    pub(crate) async fn forget(&self) {
        *self.made.lock().await = None;
    }

    async fn remove_old(&self, api: &Api, current: &str) -> Result<()> {
        let mark = filter(&format!("tag:{}", tags::PREFIX), [self.prefix.to_string()]);
        let found = api
            .call("DescribeLaunchTemplates", || {
                let call = api.ec2.describe_launch_templates().max_results(MOST);
                call.filters(mark.clone()).send()
            })
            .await?;
        let start = format!("runner-manager-{}-", self.prefix);
        let old = |template: &LaunchTemplate| {
            let name = template.launch_template_name().unwrap_or_default();
            let made = template.create_time().map_or(Timestamp::MAX, timestamp);
            let age = Timestamp::now().duration_since(made);
            name != current
                && name.starts_with(&start)
                && age.unsigned_abs() > OLD
                && age.is_positive()
        };
        for template in found
            .launch_templates
            .unwrap_or_default()
            .into_iter()
            .filter(old)
        {
            let name = template.launch_template_name.unwrap_or_default();
            let outcome = api
                .call("DeleteLaunchTemplate", || {
                    api.ec2
                        .delete_launch_template()
                        .launch_template_name(&name)
                        .send()
                })
                .await;
            match outcome {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
