//! Waivers: what the suite does not hold against a backend, as data.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    waiver: Vec<Waiver>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiver {
    case: String,
    reason: String,
    expires: Date,
}

/// The reason of each waived case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waivers(BTreeMap<String, String>);

impl Waivers {
    /// Reads a `waivers.toml`:
    ///
    /// ```toml
    /// [[waiver]]
    /// case = "group::name"
    /// reason = "why it cannot be brought about, in words that a user can judge"
    /// expires = "2027-06-30"
    /// ```
    ///
    /// # Errors
    /// What is no such file, an unknown or twice-named case, an empty reason, and a date before
    /// `today`.
    pub fn parse(text: &str, known: &[&str], today: Date) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| format!("waivers: {e}"))?;
        let mut waivers = BTreeMap::new();
        for waiver in file.waiver {
            let case = waiver.case;
            if !known.contains(&case.as_str()) {
                return Err(format!("a waiver names an unknown case `{case}`"));
            }
            if waiver.reason.trim().is_empty() {
                return Err(format!("the waiver of `{case}` gives no reason"));
            }
            if waiver.expires < today {
                let on = waiver.expires;
                return Err(format!(
                    "the waiver of `{case}` expired on {on}: bring the case about, or look at \
                     the reason again and extend it"
                ));
            }
            if waivers.insert(case.clone(), waiver.reason).is_some() {
                return Err(format!("two waivers name the case `{case}`"));
            }
        }
        Ok(Self(waivers))
    }

    /// The reason why a case is waived, if it is.
    #[must_use]
    pub fn reason(&self, case: &str) -> Option<&str> {
        self.0.get(case).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Waivers, String> {
        let today = jiff::civil::date(2026, 11, 25);
        Waivers::parse(text, &["a::b"], today)
    }

    fn waiver(case: &str, reason: &str, expires: &str) -> String {
        format!("[[waiver]]\ncase = {case:?}\nreason = {reason:?}\nexpires = {expires:?}\n")
    }

    #[test]
    fn a_waiver_holds_up_to_its_day() {
        let waivers = parse(&waiver("a::b", "no power", "2026-11-25")).expect("it holds today");
        assert_eq!(waivers.reason("a::b"), Some("no power"));
        assert_eq!(waivers.reason("a::c"), None);
        assert_eq!(parse(""), Ok(Waivers::default()));
    }

    #[test]
    fn what_excuses_nothing_is_an_error() {
        let twice = waiver("a::b", "x", "2027-01-01").repeat(2);
        for (text, word) in [
            (waiver("a::b", "x", "2026-11-24"), "expired"),
            (waiver("a::c", "x", "2027-01-01"), "unknown case"),
            (waiver("a::b", " ", "2027-01-01"), "no reason"),
            (waiver("a::b", "x", "soon"), "waivers"),
            ("[[waiver]]\ncase = \"a::b\"\n".into(), "reason"),
            ("x = 1".into(), "unknown field"),
            (twice, "two waivers"),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(word), "{error}");
        }
    }
}
