//! Labels: what `runs-on` of a job is matched with.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::InvalidValue;

/// One label of a runner.
///
/// ASCII letters, digits and `._:/@+=-`, at most 256 characters. Narrower than what GitHub
/// takes: a label travels through command lines, environments and comma-separated lists.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The longest label in characters.
    pub const MAX_LEN: usize = 256;

    /// Checks a label.
    ///
    /// # Errors
    /// When it is empty, too long, or holds a character that is not allowed.
    pub fn new(label: impl Into<String>) -> Result<Self, InvalidValue> {
        let label = label.into();
        if label.is_empty() {
            return Err(InvalidValue::new("label", &label, "is empty"));
        }
        if label.len() > Self::MAX_LEN {
            return Err(InvalidValue::new(
                "label",
                &label,
                "is longer than 256 bytes",
            ));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:/@+=-".contains(c);
        match label.chars().find(|c| !allowed(*c)) {
            Some(bad) => Err(InvalidValue::new(
                "label",
                &label,
                format!("holds {bad:?}; use ASCII letters, digits and `._:/@+=-`"),
            )),
            None => Ok(Self(label)),
        }
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether GitHub takes `other` for this label: letter case does not count.
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Label {}

impl TryFrom<String> for Label {
    type Error = InvalidValue;
    fn try_from(label: String) -> Result<Self, InvalidValue> {
        Self::new(label)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The labels of a runner: at least one, none twice, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Label>", into = "Vec<Label>")]
pub struct Labels(Vec<Label>);

impl Labels {
    /// Checks a list of labels.
    ///
    /// # Errors
    /// When it is empty or names a label twice (letter case does not count).
    pub fn new(labels: Vec<Label>) -> Result<Self, InvalidValue> {
        if labels.is_empty() {
            return Err(InvalidValue::new(
                "list of labels",
                "",
                "is empty; give at least one",
            ));
        }
        for (at, label) in labels.iter().enumerate() {
            if labels[..at].contains(label) {
                return Err(InvalidValue::new("label", label.as_str(), "is given twice"));
            }
        }
        Ok(Self(labels))
    }

    /// Checks a list of plain strings.
    ///
    /// # Errors
    /// As [`Label::new`] and [`Labels::new`].
    pub fn parse<S: Into<String>>(
        labels: impl IntoIterator<Item = S>,
    ) -> Result<Self, InvalidValue> {
        Self::new(
            labels
                .into_iter()
                .map(Label::new)
                .collect::<Result<_, _>>()?,
        )
    }

    /// Whether a runner with these labels may take a job that asks for `wanted`: every label
    /// of the job must be offered, and a job that asks for none is never taken.
    #[must_use]
    pub fn offer<S: AsRef<str>>(&self, wanted: &[S]) -> bool {
        !wanted.is_empty()
            && wanted
                .iter()
                .all(|want| self.0.iter().any(|label| label.matches(want.as_ref())))
    }

    /// These labels and those of `others` that are not among them yet.
    #[must_use]
    pub fn with(&self, others: impl IntoIterator<Item = Label>) -> Self {
        let mut all = self.0.clone();
        for label in others {
            if !all.contains(&label) {
                all.push(label);
            }
        }
        Self(all)
    }

    /// The labels in order.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter()
    }

    /// The labels as `config.sh --labels` takes them.
    #[must_use]
    pub fn comma_separated(&self) -> String {
        self.0
            .iter()
            .map(Label::as_str)
            .collect::<Vec<_>>()
            .join(",")
    }
}

impl TryFrom<Vec<Label>> for Labels {
    type Error = InvalidValue;
    fn try_from(labels: Vec<Label>) -> Result<Self, InvalidValue> {
        Self::new(labels)
    }
}

impl From<Labels> for Vec<Label> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nasty_labels_are_refused() {
        for bad in [
            "", "a b", "a,b", "$(id)", "`id`", "a;b", "a'b", "a\"b", "a\nb", "größe", "😀",
        ] {
            assert!(Label::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(Label::new("ubuntu-24.04/x86_64:gpu+big=1@eu").is_ok());
    }

    #[test]
    fn jobs_match_when_every_label_is_offered() {
        let labels = Labels::parse(["self-hosted", "Linux", "X64"]).unwrap();
        assert!(labels.offer(&["SELF-HOSTED", "linux"]));
        assert!(!labels.offer(&["self-hosted", "gpu"]));
        assert!(!labels.offer::<&str>(&[]));
        assert!(Labels::parse(["a", "A"]).is_err());
        assert!(Labels::parse(Vec::<String>::new()).is_err());
    }
}
