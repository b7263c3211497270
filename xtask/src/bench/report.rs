//! What the demo's JSON says, and the tables made of it.

use super::stages;
use crate::failure::{Failure, Result};
use crate::table;
use serde_json::Value;
use std::collections::BTreeMap;

/// The counts that the demo gives, by key; other keys are ignored.
const COUNTS: [&str; 5] = [
    "jobs_completed",
    "jobs_failed",
    "jobs_cancelled",
    "runners_created",
    "orphans",
];

/// One run of the demo.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Run {
    counts: [u64; COUNTS.len()],
    stages: BTreeMap<String, Latency>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Latency {
    median: f64,
    p95: f64,
}

impl Run {
    /// Reads what `demo --json` prints: one object.
    pub(crate) fn parse(printed: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(printed).map_err(Failure::because(
            "the demo printed what is not one JSON value",
        ))?;
        let mut counts = [0; COUNTS.len()];
        for (count, key) in counts.iter_mut().zip(COUNTS) {
            *count = json[key].as_u64().ok_or_else(|| missing(key, "a count"))?;
        }
        let latencies = json["latencies"]
            .as_object()
            .filter(|latencies| !latencies.is_empty())
            .ok_or_else(|| missing("latencies", "an object with a key for each stage"))?;
        let stages = latencies
            .iter()
            .map(|(stage, value)| Ok((stage.clone(), Latency::parse(stage, value)?)))
            .collect::<Result<_>>()?;
        Ok(Self { counts, stages })
    }
}

impl Latency {
    fn parse(stage: &str, value: &Value) -> Result<Self> {
        let number = |key| {
            let number = value[key].as_f64();
            number.ok_or_else(|| missing(&format!("latencies.{stage}.{key}"), "a number"))
        };
        Ok(Self {
            median: number("median_ms")?,
            p95: number("p95_ms")?,
        })
    }
}

fn missing(key: &str, kind: &str) -> Failure {
    Failure::new(format!("the demo's JSON has no `{key}` that is {kind}"))
}

/// The counts of each run.
pub(crate) fn runs(runs: &[Run]) -> String {
    let header: Vec<&str> = std::iter::once("run").chain(COUNTS).collect();
    let rows: Vec<Vec<String>> = runs
        .iter()
        .zip(1..)
        .map(|(run, number)| {
            let counts = run.counts.iter().map(u64::to_string);
            std::iter::once(number.to_string()).chain(counts).collect()
        })
        .collect();
    table::render(&header, &rows)
}

/// For each stage the median over the runs, and the share of the stages' sum within each run:
/// shares of one run compare across machines, milliseconds do not.
pub(crate) fn stages(runs: &[Run]) -> Result<String> {
    let mut names: Vec<&String> = runs.iter().flat_map(|run| run.stages.keys()).collect();
    names.sort_by_key(|name| (stages::rank(name), name.as_str()));
    names.dedup();
    let mut header = vec![
        "stage".to_owned(),
        "median ms".to_owned(),
        "p95 ms".to_owned(),
    ];
    header.extend((1..=runs.len()).map(|number| format!("share run {number}")));
    let rows = names
        .into_iter()
        .map(|name| row(name, runs))
        .collect::<Result<Vec<_>>>()?;
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    Ok(table::render(&header, &rows))
}

fn row(name: &str, runs: &[Run]) -> Result<Vec<String>> {
    let latencies = runs
        .iter()
        .zip(1..)
        .map(|(run, number)| {
            let absent =
                || Failure::new(format!("run {number} has no stage `{name}`, others have"));
            run.stages.get(name).copied().ok_or_else(absent)
        })
        .collect::<Result<Vec<Latency>>>()?;
    let milliseconds = |values: Vec<f64>| format!("{:.1}", median(values));
    let mut row = vec![
        name.to_owned(),
        milliseconds(latencies.iter().map(|latency| latency.median).collect()),
        milliseconds(latencies.iter().map(|latency| latency.p95).collect()),
    ];
    row.extend(
        latencies
            .iter()
            .zip(runs)
            .map(|(latency, run)| share(*latency, run)),
    );
    Ok(row)
}

fn share(latency: Latency, run: &Run) -> String {
    let parts = run
        .stages
        .iter()
        .filter(|(name, _)| !stages::is_whole(name));
    let sum: f64 = parts.map(|(_, part)| part.median).sum();
    if sum <= 0.0 {
        return "0.0 %".to_owned();
    }
    format!("{:.1} %", 100.0 * latency.median / sum)
}

/// The middle value, or the mean of the two in the middle. 0 without values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.get(middle) {
        None => 0.0,
        Some(&upper) if values.len() % 2 == 1 => upper,
        Some(&upper) => f64::midpoint(values[middle - 1], upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn demo(launched: f64, online: f64) -> Value {
        json!({
            "jobs_completed": 48, "jobs_failed": 1, "jobs_cancelled": 1,
            "runners_created": 50, "orphans": 0, "extra": {"x": 1},
            "latencies": {
                "launched_to_online": {"median_ms": online, "p95_ms": online * 2.0, "max_ms": 9},
                "queued_to_launched": {"median_ms": launched, "p95_ms": launched * 2.0},
                "queued_to_done": {"median_ms": launched + online, "p95_ms": 0},
            },
        })
    }

    fn run(launched: f64, online: f64) -> Run {
        Run::parse(&demo(launched, online).to_string()).expect("the demo's keys are all there")
    }

    #[test]
    fn medians_and_shares_are_in_the_table() {
        let table =
            stages(&[run(10.0, 30.0), run(20.0, 20.0), run(90.0, 10.0)]).expect("same stages");
        let lines: Vec<Vec<&str>> = table
            .lines()
            .skip(2)
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines,
            [
                [
                    "queued_to_launched",
                    "20.0",
                    "40.0",
                    "25.0 %",
                    "50.0 %",
                    "90.0 %"
                ],
                [
                    "launched_to_online",
                    "20.0",
                    "40.0",
                    "75.0 %",
                    "50.0 %",
                    "10.0 %"
                ],
                [
                    "queued_to_done",
                    "40.0",
                    "0.0",
                    "100.0 %",
                    "100.0 %",
                    "100.0 %"
                ],
            ]
        );
    }

    #[test]
    fn the_counts_of_each_run_are_in_the_table() {
        let table = runs(&[run(1.0, 1.0)]);
        let last: Vec<&str> = table
            .lines()
            .last()
            .unwrap_or("")
            .split_whitespace()
            .collect();
        assert_eq!(last, ["1", "48", "1", "1", "50", "0"]);
    }

    #[test]
    fn each_missing_key_is_named() {
        for key in COUNTS.into_iter().chain(["latencies"]) {
            let mut json = demo(1.0, 1.0);
            json.as_object_mut().expect("an object").remove(key);
            let failure = Run::parse(&json.to_string()).expect_err("a key is missing");
            assert!(
                failure.to_string().contains(&format!("`{key}`")),
                "{failure}"
            );
        }
        let mut json = demo(1.0, 1.0);
        json["latencies"]["queued_to_done"] = json!({"median_ms": 1});
        let failure = Run::parse(&json.to_string()).expect_err("a key is missing");
        assert!(
            failure
                .to_string()
                .contains("`latencies.queued_to_done.p95_ms`"),
            "{failure}"
        );
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for printed in ["", "[]", "null", "done\n{}"] {
            assert!(Run::parse(printed).is_err(), "accepted {printed:?}");
        }
        let mut json = demo(1.0, 1.0);
        json["latencies"] = json!({});
        assert!(Run::parse(&json.to_string()).is_err());
    }

    #[test]
    fn runs_with_different_stages_are_refused() {
        let mut other = run(1.0, 1.0);
        other.stages.remove("queued_to_done");
        let failure = stages(&[run(1.0, 1.0), other]).expect_err("a stage is missing");
        assert!(
            failure
                .to_string()
                .contains("run 2 has no stage `queued_to_done`"),
            "{failure}"
        );
    }

    #[test]
    fn medians_of_even_and_odd_counts() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![3.0], 3.0),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0], 2.5),
        ] {
            assert!((median(values) - expected).abs() < f64::EPSILON);
        }
    }
}
