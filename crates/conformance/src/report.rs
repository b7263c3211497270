//! The outcome of every case, for people.

use std::collections::BTreeMap;

use crate::Outcome;

/// What became of the cases that did not fail.
pub(crate) type Outcomes = BTreeMap<&'static str, Outcome>;

fn count(outcomes: &Outcomes, which: impl Fn(&Outcome) -> bool) -> usize {
    outcomes.values().filter(|outcome| which(outcome)).count()
}

/// The closing line.
pub(crate) fn summary(scheme: &str, outcomes: &Outcomes) -> String {
    let verified = count(outcomes, |o| *o == Outcome::Verified);
    let refused = count(outcomes, |o| matches!(o, Outcome::Refused(_)));
    let waived = count(outcomes, |o| matches!(o, Outcome::Waived(_)));
    let cases = outcomes.len();
    format!(
        "conformance {scheme}: {cases} cases: {verified} verified, {refused} refused, {waived} waived"
    )
}

/// What is waived, and why: one line each.
pub(crate) fn waived(outcomes: &Outcomes) -> Vec<String> {
    let reason = |(name, outcome): (&&str, &Outcome)| match outcome {
        Outcome::Waived(reason) => Some(format!("waived {name}: {reason}")),
        Outcome::Verified | Outcome::Refused(_) => None,
    };
    outcomes.iter().filter_map(reason).collect()
}

/// The page of a backend.
pub(crate) fn page(scheme: &str, outcomes: &Outcomes) -> String {
    let mut page = format!("# Conformance of `{scheme}`\n\n");
    page += &format!("`cargo xtask conformance {scheme}` wrote this page.\n\n");
    page += &format!("{}.\n\n", summary(scheme, outcomes));
    page += "| case | outcome |\n| --- | --- |\n";
    for (name, outcome) in outcomes {
        let outcome = match outcome {
            Outcome::Verified => "verified".to_owned(),
            Outcome::Refused(why) => format!("refused: {why}"),
            Outcome::Waived(why) => format!("waived: {why}"),
        };
        page += &format!("| `{name}` | {outcome} |\n");
    }
    page
}
