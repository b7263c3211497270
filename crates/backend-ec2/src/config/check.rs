//! What serde cannot check.

use runner_manager_core::{Error, ErrorKind, Result};

use super::{Ec2Config, Purchase, Strategy, Volume};
use crate::tags;

fn wrong<T>(key: impl std::fmt::Display, message: &str) -> Result<T> {
    Err(Error::new(ErrorKind::InvalidConfig, message).with_context("key", key))
}

impl Ec2Config {
    /// Checks the section as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidConfig`], with the key.
    pub(crate) fn validate(&self) -> Result<()> {
        self.validate_base()?;
        self.validate_choice()?;
        self.validate_volumes()?;
        self.boot
            .check()
            .map_err(|error| error.with_context("key", "boot"))?;
        if self.ssh.is_some() && self.ssm.is_some() {
            return wrong("ssm", "is set together with `ssh`; keep one of the two");
        }
        if self.ssm.is_some() && self.instance_profile.is_none() && self.launch_template.is_none() {
            let message = "needs `instance_profile`, one that lets Systems Manager's agent in";
            return wrong("ssm", message);
        }
        for key in self.tags.keys() {
            if key.is_empty() || key.starts_with("aws:") || tags::is_reserved(key) {
                let message = "is empty, or is set by EC2 or by the manager; choose another name";
                return wrong(format!("tags.{key}"), message);
            }
        }
        // EC2 takes 50 tags, of which four are the manager's.
        if self.tags.len() > 46 {
            return wrong("tags", "are more than 46");
        }
        if !(1..=1_000).contains(&self.calls_per_second) {
            return wrong("calls_per_second", "is not between 1 and 1000");
        }
        Ok(())
    }

    fn validate_base(&self) -> Result<()> {
        let no_template = self.launch_template.is_none();
        match &self.image {
            None if no_template => {
                return wrong(
                    "image",
                    "is missing; only a launch template can name it instead",
                );
            }
            Some(image) => {
                let ways = [&image.id, &image.name, &image.ssm_parameter];
                if ways.into_iter().flatten().count() != 1 {
                    let message = "needs one of `id`, `name` with `owner`, and `ssm_parameter`";
                    return wrong("image", message);
                }
                if image.name.is_some() != image.owner.is_some() {
                    let message = "goes with `name`, and `name` with it: anybody may publish an image of any name";
                    return wrong("image.owner", message);
                }
            }
            None => {}
        }
        if self.instance_types.is_empty() && no_template {
            return wrong("instance_types", "names no type; give at least one");
        }
        if let Some(template) = &self.launch_template
            && template.id.is_some() == template.name.is_some()
        {
            return wrong("launch_template", "needs one of `id` and `name`");
        }
        for (key, values) in [
            ("instance_types", &self.instance_types),
            ("subnet_ids", &self.subnet_ids),
            ("security_group_ids", &self.security_group_ids),
        ] {
            if values.iter().any(String::is_empty) {
                return wrong(key, "holds an empty value");
            }
        }
        Ok(())
    }

    fn validate_choice(&self) -> Result<()> {
        if let Some(price) = &self.spot_max_price {
            if self.purchase == Purchase::OnDemand {
                return wrong(
                    "spot_max_price",
                    "belongs to spot, and `purchase` is on demand",
                );
            }
            let amount = price.parse::<f64>().unwrap_or(f64::NAN);
            if !(0.001..1_000.0).contains(&amount) {
                return wrong(
                    "spot_max_price",
                    "is no price per hour in dollars, such as `0.05`",
                );
            }
        }
        match self.strategy {
            Strategy::Ordered => return Ok(()),
            Strategy::LowestPrice => {}
            Strategy::CapacityOptimized | Strategy::PriceCapacityOptimized => {
                if self.purchase == Purchase::OnDemand {
                    let message = "is about spot, and `purchase` is on demand; use `ordered` or `lowest_price`";
                    return wrong("strategy", message);
                }
            }
        }
        if self.launch_template.is_some() {
            let message =
                "makes a launch template of its own, which cannot build on another; use `ordered`";
            return wrong("strategy", message);
        }
        Ok(())
    }

    fn validate_volumes(&self) -> Result<()> {
        if let Some(root) = &self.root_volume {
            if self.image.is_none() {
                let message = "needs `image`, which tells the name of its device";
                return wrong("root_volume", message);
            }
            volume("root_volume", root)?;
        }
        for (index, data) in self.data_volumes.iter().enumerate() {
            let key = format!("data_volumes[{index}]");
            if !data.device.starts_with("/dev/") && !data.device.starts_with("xvd") {
                return wrong(format!("{key}.device"), "is no device such as `/dev/sdf`");
            }
            if data.volume.size_gib.is_none() {
                return wrong(format!("{key}.volume.size_gib"), "is missing");
            }
            volume(&format!("{key}.volume"), &data.volume)?;
        }
        Ok(())
    }
}

fn volume(key: &str, volume: &Volume) -> Result<()> {
    if volume
        .size_gib
        .is_some_and(|size| !(1..=65_536).contains(&size))
    {
        return wrong(format!("{key}.size_gib"), "is not between 1 and 65536");
    }
    if volume.kms_key_id.is_some() && !volume.encrypted {
        return wrong(format!("{key}.kms_key_id"), "goes with `encrypted = true`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use runner_manager_core::parse_section;
    use serde_json::{Value, json};

    use super::*;

    fn with(changes: &Value) -> Value {
        let mut section = json!({"image": {"id": "ami-1"}, "instance_types": ["m7i.large"]});
        for (key, value) in changes.as_object().expect("a table") {
            section[key] = value.clone();
        }
        section
    }

    fn parse(section: Value) -> Result<Ec2Config> {
        let config: Ec2Config = parse_section(section)?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn a_small_section_is_enough_and_safe() {
        let config = parse(with(&json!({}))).expect("a valid section");
        assert_eq!(config.root_volume, None);
        let volume = Volume::default();
        assert!(volume.encrypted && volume.delete_on_termination);
        assert_eq!(config.strategy, Strategy::Ordered);
        assert_eq!(config.purchase, Purchase::OnDemand);
    }

    #[test]
    fn a_launch_template_may_name_the_rest() {
        parse(json!({"launch_template": {"name": "base"}})).expect("a valid section");
    }

    #[test]
    fn wrong_sections_name_the_key() {
        for (changes, key) in [
            (json!({"image": {}}), "image"),
            (
                json!({"image": {"id": "ami-1", "ssm_parameter": "/a"}}),
                "image",
            ),
            (json!({"image": {"name": "ubuntu-*"}}), "image.owner"),
            (
                json!({"image": {"id": "ami-1", "owner": "self"}}),
                "image.owner",
            ),
            (json!({"instance_types": []}), "instance_types"),
            (json!({"subnet_ids": [""]}), "subnet_ids"),
            (json!({"launch_template": {}}), "launch_template"),
            (json!({"spot_max_price": "0.1"}), "spot_max_price"),
            (
                json!({"purchase": "spot", "spot_max_price": "cheap"}),
                "spot_max_price",
            ),
            (json!({"strategy": "capacity_optimized"}), "strategy"),
            (
                json!({"strategy": "lowest_price", "launch_template": {"id": "lt-1"}}),
                "strategy",
            ),
            (json!({"tags": {"Name": "mine"}}), "tags.Name"),
            (json!({"tags": {"aws:x": "mine"}}), "tags.aws:x"),
            (
                json!({"root_volume": {"size_gib": 0}}),
                "root_volume.size_gib",
            ),
            (
                json!({"root_volume": {"encrypted": false, "kms_key_id": "k"}}),
                "root_volume.kms_key_id",
            ),
            (
                json!({"data_volumes": [{"device": "/dev/sdf", "volume": {}}]}),
                "data_volumes[0].volume.size_gib",
            ),
            (json!({"calls_per_second": 0}), "calls_per_second"),
            (json!({"ssm": {}}), "ssm"),
            (json!({"boot": {"user": "A B"}}), "boot"),
            (json!({"regoin": "eu-west-1"}), "regoin"),
        ] {
            let error = parse(with(&changes)).expect_err("must be refused");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert_eq!(error.context("key"), Some(key), "{changes}: {error}");
        }
    }
}
