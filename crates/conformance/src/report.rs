//! The outcome of every case, for people.

use std::time::Duration;

use crate::Outcome;

/// What became of one case that ran.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) name: &'static str,
    pub(crate) time: Duration,
    /// Its outcome, or why it failed.
    pub(crate) verdict: Result<Outcome, String>,
}

fn count(records: &[Record], which: impl Fn(&Outcome) -> bool) -> usize {
    let outcomes = records
        .iter()
        .filter_map(|record| record.verdict.as_ref().ok());
    outcomes.filter(|outcome| which(outcome)).count()
}

/// The closing line.
pub(crate) fn summary(scheme: &str, records: &[Record]) -> String {
    let verified = count(records, |o| *o == Outcome::Verified);
    let refused = count(records, |o| matches!(o, Outcome::Refused(_)));
    let waived = count(records, |o| matches!(o, Outcome::Waived(_)));
    let cases = records.len();
    let failed = cases - verified - refused - waived;
    let failed = match failed {
        0 => String::new(),
        failed => format!(", {failed} FAILED"),
    };
    format!(
        "conformance {scheme}: {cases} cases: {verified} verified, {refused} refused, {waived} waived{failed}"
    )
}

/// What is waived, and why: one line each.
pub(crate) fn waived(records: &[Record]) -> Vec<String> {
    let reason = |record: &Record| match &record.verdict {
        Ok(Outcome::Waived(reason)) => Some(format!("waived {}: {reason}", record.name)),
        _ => None,
    };
    records.iter().filter_map(reason).collect()
}

/// The page of a backend, of which every case ran and none failed.
pub(crate) fn page(scheme: &str, records: &[Record]) -> String {
    let mut page = format!("# Conformance of `{scheme}`\n\n");
    page += &format!("`cargo xtask conformance {scheme}` wrote this page.\n\n");
    page += &format!("{}.\n\n", summary(scheme, records));
    page += "| case | outcome |\n| --- | --- |\n";
    for record in records {
        let outcome = match &record.verdict {
            Ok(Outcome::Verified) => "verified".to_owned(),
            Ok(Outcome::Refused(why)) => format!("refused: {why}"),
            Ok(Outcome::Waived(why)) => format!("waived: {why}"),
            Err(failure) => format!("FAILED: {failure}"),
        };
        page += &format!("| `{}` | {outcome} |\n", record.name);
    }
    page
}
