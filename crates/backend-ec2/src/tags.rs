//! The manager's mark on what it makes.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use runner_manager_core::{NamePrefix, RunnerName};

/// The runner's name, where EC2's own tools look for a name.
pub(crate) const NAME: &str = "Name";
/// The prefix of the manager that owns the thing. With the name it is the proof of ownership.
pub(crate) const PREFIX: &str = "runner-manager:prefix";
/// `on-demand` or `spot`.
pub(crate) const PURCHASE: &str = "runner-manager:purchase";

/// Whether a tag is the manager's own.
pub(crate) fn is_reserved(key: &str) -> bool {
    key == NAME || key.starts_with("runner-manager:")
}

/// The tags of what is made for a runner.
pub(crate) fn of_runner(
    name: &RunnerName,
    purchase: &str,
    more: &BTreeMap<String, String>,
) -> Vec<Tag> {
    let own = [
        (NAME, name.to_string()),
        (PREFIX, name.prefix().to_string()),
        (PURCHASE, purchase.to_owned()),
    ];
    let own = own.into_iter().map(|(key, value)| tag(key, value));
    own.chain(more.iter().map(|(key, value)| tag(key, value)))
        .collect()
}

/// One tag.
pub(crate) fn tag(key: &str, value: impl Into<String>) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// The same tags on an instance and on what comes into being with it.
pub(crate) fn specifications(tags: &[Tag]) -> Vec<TagSpecification> {
    let kinds = [
        ResourceType::Instance,
        ResourceType::Volume,
        ResourceType::NetworkInterface,
    ];
    let specification = |kind| {
        TagSpecification::builder()
            .resource_type(kind)
            .set_tags(Some(tags.to_vec()))
            .build()
    };
    kinds.into_iter().map(specification).collect()
}

/// The runner that something is marked with: its name is one of the prefix, and so is the mark.
pub(crate) fn owner(tags: &[Tag], prefix: &NamePrefix) -> Option<RunnerName> {
    let value = |key| {
        let tag = tags.iter().find(|tag| tag.key() == Some(key));
        tag.and_then(Tag::value)
    };
    value(PREFIX).filter(|mark| *mark == prefix.as_str())?;
    prefix.owned(value(NAME)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ownership_needs_the_name_and_the_mark() {
        let prefix = NamePrefix::new("app-1").expect("a prefix");
        let name: RunnerName = "app-1-0123456789ab".parse().expect("a name");
        let tags = of_runner(&name, "spot", &BTreeMap::new());
        assert_eq!(owner(&tags, &prefix), Some(name));
        let other = NamePrefix::new("app-10").expect("a prefix");
        assert_eq!(owner(&tags, &other), None);
        let marked =
            |key: &str, value: &str| vec![tag(NAME, "app-1-0123456789ab"), tag(key, value)];
        assert_eq!(owner(&marked(PREFIX, "app-10"), &prefix), None);
        assert_eq!(owner(&marked("prefix", "app-1"), &prefix), None);
        let renamed = [tag(NAME, "app-1-x"), tag(PREFIX, "app-1")];
        assert_eq!(owner(&renamed, &prefix), None);
    }

    #[test]
    fn everything_made_at_launch_is_marked() {
        let kinds: Vec<_> = specifications(&[])
            .into_iter()
            .map(|s| s.resource_type)
            .collect();
        assert_eq!(kinds.len(), 3);
    }
}
