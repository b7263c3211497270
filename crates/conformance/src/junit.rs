//! The outcome of every case, for machines that read the form of `JUnit`.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::Outcome;
use crate::report::Record;

/// The report. What is refused or waived counts as passed and says so in its output; what is
/// waived counts as skipped.
pub(crate) fn report(scheme: &str, records: &[Record]) -> Result<String, String> {
    let mut suite = TestSuite::new(scheme);
    for record in records {
        suite.add_test_case(case(record));
    }
    let mut report = Report::new("conformance");
    report.add_test_suite(suite);
    report.to_string().map_err(|error| error.to_string())
}

fn case(record: &Record) -> TestCase {
    let status = match &record.verdict {
        Ok(Outcome::Verified | Outcome::Refused(_)) => TestCaseStatus::success(),
        Ok(Outcome::Waived(reason)) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason.as_str());
            status
        }
        Err(failure) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(failure.as_str());
            status
        }
    };
    let (group, _) = record.name.split_once("::").unwrap_or((record.name, ""));
    let mut case = TestCase::new(record.name, status);
    case.set_classname(group);
    case.set_time(record.time);
    if let Ok(Outcome::Refused(why)) = &record.verdict {
        case.set_system_out(format!("refused: {why}"));
    }
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_outcome_has_its_form() {
        let record = |name, verdict| Record {
            name,
            time: Duration::from_millis(1_500),
            verdict,
        };
        let records = [
            record("a::holds", Ok(Outcome::Verified)),
            record("a::refused", Ok(Outcome::Refused("it cannot"))),
            record("b::waived", Ok(Outcome::Waived("no peer <can>".into()))),
            record("b::wrong", Err("1 & 2".into())),
        ];
        let text = report("x", &records).expect("a report");
        for part in [
            r#"tests="4""#,
            r#"failures="1""#,
            r#"name="a::holds""#,
            r#"time="1.500""#,
            "refused: it cannot",
            "no peer &lt;can&gt;",
            "1 &amp; 2",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
