//! Names: `{prefix}-{instance id}`, the same string on the cloud and on GitHub.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::InvalidValue;

/// Marks what belongs to one manager.
///
/// Starts with an ASCII letter, continues with ASCII letters, digits and `-`, does not end
/// with `-`, and has at most [`NamePrefix::MAX_LEN`] characters, so that a runner name is also
/// a valid DNS label and instance name on every backend.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePrefix(String);

impl NamePrefix {
    /// The longest prefix: 63 characters of a DNS label, less `-` and the instance id.
    pub const MAX_LEN: usize = 63 - 1 - InstanceId::LEN;

    /// Checks a prefix.
    ///
    /// # Errors
    /// When the prefix breaks one of the rules of this type.
    pub fn new(prefix: impl Into<String>) -> Result<Self, InvalidValue> {
        let prefix = prefix.into();
        let refuse = |reason: String| Err(InvalidValue::new("name prefix", &prefix, reason));
        if prefix.is_empty() {
            return refuse("is empty; give it one to 50 characters".into());
        }
        if prefix.len() > Self::MAX_LEN {
            let (len, max) = (prefix.len(), Self::MAX_LEN);
            return refuse(format!("is too long: {len} bytes where {max} are the most"));
        }
        if let Some(bad) = prefix
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && *c != '-')
        {
            return refuse(format!("holds {bad:?}; use ASCII letters, digits and `-`"));
        }
        if !prefix.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return refuse("must start with a letter".into());
        }
        if prefix.ends_with('-') {
            return refuse("must not end with `-`".into());
        }
        Ok(Self(prefix))
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the runner with this id.
    #[must_use]
    pub fn runner_name(&self, id: &InstanceId) -> RunnerName {
        RunnerName::of(self.clone(), id.clone())
    }

    /// The runner name that `name` is, if it is exactly this prefix, `-`, and a whole instance
    /// id. `app-1` never owns a name of `app-10`, nor of `app-1-x`.
    #[must_use]
    pub fn owned(&self, name: &str) -> Option<RunnerName> {
        let id = name.strip_prefix(&self.0)?.strip_prefix('-')?;
        Some(self.runner_name(&id.parse().ok()?))
    }
}

impl TryFrom<String> for NamePrefix {
    type Error = InvalidValue;
    fn try_from(prefix: String) -> Result<Self, InvalidValue> {
        Self::new(prefix)
    }
}

impl From<NamePrefix> for String {
    fn from(prefix: NamePrefix) -> Self {
        prefix.0
    }
}

impl fmt::Display for NamePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The manager's own id of an instance: twelve lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceId(String);

impl InstanceId {
    /// The length in characters.
    pub const LEN: usize = 12;

    /// A new random id of 48 bits. Should two ever meet, the store refuses the second.
    #[must_use]
    pub fn random() -> Self {
        Self::from_rng(&mut rand::rng())
    }

    /// A new id from a given source of randomness, for simulations with a seed.
    pub fn from_rng(rng: &mut impl Rng) -> Self {
        Self(format!("{:012x}", rng.next_u64() >> 16))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = InvalidValue;
    fn from_str(id: &str) -> Result<Self, InvalidValue> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if id.len() == Self::LEN && id.bytes().all(hex) {
            Ok(Self(id.to_owned()))
        } else {
            Err(InvalidValue::new(
                "instance id",
                id,
                "is not twelve lowercase hexadecimal digits",
            ))
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidValue;
    fn try_from(id: String) -> Result<Self, InvalidValue> {
        id.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of one runner, on the cloud and on GitHub: `{prefix}-{instance id}`.
///
/// At most 63 characters; GitHub allows 64. Clones share it: a fleet has the names of all its
/// runners in its hands again and again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunnerName(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    text: String,
    prefix: NamePrefix,
    id: InstanceId,
}

impl RunnerName {
    fn of(prefix: NamePrefix, id: InstanceId) -> Self {
        let text = format!("{prefix}-{id}");
        Self(Arc::new(Parts { text, prefix, id }))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The prefix of the manager that owns the runner.
    #[must_use]
    pub fn prefix(&self) -> &NamePrefix {
        &self.0.prefix
    }

    /// The id of the instance that hosts the runner.
    #[must_use]
    pub fn instance_id(&self) -> &InstanceId {
        &self.0.id
    }
}

impl fmt::Display for RunnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RunnerName {
    type Err = InvalidValue;
    fn from_str(name: &str) -> Result<Self, InvalidValue> {
        let (prefix, id) = name.rsplit_once('-').ok_or_else(|| {
            InvalidValue::new(
                "runner name",
                name,
                "is not a prefix, `-` and an instance id",
            )
        })?;
        Ok(Self::of(NamePrefix::new(prefix)?, id.parse()?))
    }
}

impl Serialize for RunnerName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunnerName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_that_cannot_be_names_are_refused() {
        let long = "a".repeat(51);
        for bad in [
            "", "a/b", "1a", "-a", "a-", "a b", "a\nb", "ü", "a_b", "a.b", "$(id)", &long,
        ] {
            assert!(NamePrefix::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(NamePrefix::new("a".repeat(50)).is_ok());
    }

    #[test]
    fn ownership_is_the_exact_pattern() {
        let app1 = NamePrefix::new("app-1").unwrap();
        assert!(app1.owned("app-1-0123456789ab").is_some());
        for foreign in [
            "app-10-0123456789ab",
            "app-1-0123456789AB",
            "app-1-0123456789abc",
            "app-1-0123456789a",
            "app-1-x-0123456789ab",
            "app-10123456789ab",
            "app-1",
            "",
        ] {
            assert_eq!(app1.owned(foreign), None, "{foreign:?} was claimed");
        }
    }

    #[test]
    fn runner_names_round_trip_and_fit_a_dns_label() {
        let name = NamePrefix::new("p".repeat(50))
            .unwrap()
            .runner_name(&InstanceId::random());
        assert_eq!(name.to_string().len(), 63);
        assert_eq!(name.to_string().parse::<RunnerName>().unwrap(), name);
    }
}
