//! What the demo proves.

use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;
use runner_manager_core::Result;
use runner_manager_github_sim::{Conclusion, JobView, Sim};
use runner_manager_store::{RunnerState, Store};
use serde::Serialize;

/// What should come out.
pub(crate) struct Expected {
    pub(crate) jobs: u32,
    pub(crate) failed: u32,
    pub(crate) cancelled: u32,
    /// The job that loses its runner.
    pub(crate) victim: u64,
}

/// Milliseconds of one stage over all jobs that went through it.
#[derive(Debug, Default, Serialize)]
struct Latency {
    median_ms: i64,
    p95_ms: i64,
}

/// Milliseconds from one stage to the next.
#[derive(Debug, Serialize)]
struct Latencies {
    queued_to_picked_up: Latency,
    launched_to_online: Latency,
    online_to_picked_up: Latency,
    picked_up_to_done: Latency,
    queued_to_done: Latency,
}

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Jobs that ended as they should: with success, or with the failure of their script.
    jobs_completed: usize,
    jobs_failed: usize,
    jobs_cancelled: usize,
    jobs_unfinished: usize,
    runners_created: u64,
    /// Processes, folders and registrations that are left.
    orphans: usize,
    left: Vec<String>,
    latencies: Latencies,
    ok: bool,
    #[serde(skip)]
    rows: Vec<[String; 7]>,
}

fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<i64> {
    Some(
        to?.duration_since(from?)
            .as_millis()
            .try_into()
            .unwrap_or(i64::MAX),
    )
}

fn latency(mut values: Vec<i64>) -> Latency {
    values.sort_unstable();
    let at = |percent: usize| {
        values
            .get(values.len() * percent / 100)
            .copied()
            .unwrap_or(0)
    };
    Latency {
        median_ms: at(50),
        p95_ms: at(95),
    }
}

impl Report {
    pub(crate) async fn new(
        sim: &Sim,
        store: &Store,
        expected: Expected,
        left: Vec<String>,
        in_time: bool,
    ) -> Result<Self> {
        let jobs = sim.jobs();
        let mut launched = Vec::new();
        for job in &jobs {
            launched.push(launched_at(store, job).await?);
        }
        let stage = |from: &dyn Fn(&JobView, Option<Timestamp>) -> Option<i64>| {
            latency(
                jobs.iter()
                    .zip(&launched)
                    .filter_map(|(job, at)| from(job, *at))
                    .collect(),
            )
        };
        let latencies = Latencies {
            queued_to_picked_up: stage(&|j, _| between(Some(j.queued_at), j.started_at)),
            launched_to_online: stage(&|j, at| between(at, j.runner_online_at)),
            online_to_picked_up: stage(&|j, _| between(j.runner_online_at, j.started_at)),
            picked_up_to_done: stage(&|j, _| between(j.started_at, j.completed_at)),
            queued_to_done: stage(&|j, _| {
                between(
                    Some(j.queued_at),
                    j.completed_at.filter(|_| j.runner_name.is_some()),
                )
            }),
        };
        let ended = |how| {
            jobs.iter()
                .filter(|job| job.conclusion == Some(how))
                .count()
        };
        let (succeeded, failed, cancelled) = (
            ended(Conclusion::Success),
            ended(Conclusion::Failure),
            ended(Conclusion::Cancelled),
        );
        let lost = jobs
            .iter()
            .any(|j| j.id == expected.victim && j.conclusion == Some(Conclusion::Failure));
        let wanted = (expected.jobs - expected.failed - expected.cancelled) as usize;
        let ok = in_time
            && lost
            && succeeded == wanted
            && failed == expected.failed as usize
            && cancelled == expected.cancelled as usize
            && left.is_empty();
        Ok(Self {
            jobs_completed: succeeded,
            jobs_failed: failed,
            jobs_cancelled: cancelled,
            jobs_unfinished: jobs.len() - succeeded - failed - cancelled,
            runners_created: sim.registrations_created(),
            orphans: left.len(),
            left,
            latencies,
            ok,
            rows: jobs
                .iter()
                .zip(launched)
                .map(|(job, at)| table_row(job, at))
                .collect(),
        })
    }

    pub(crate) fn is_good(&self) -> bool {
        self.ok
    }

    pub(crate) fn print(&self, json: bool) -> Result<()> {
        if json {
            let value = serde_json::to_value(self).unwrap_or_default();
            return crate::cli::print(&value, true);
        }
        println!("Milliseconds since the job was queued:");
        println!("{}", jobs_table(&self.rows));
        let l = &self.latencies;
        let mut stages = crate::cli::table(&["stage", "median ms", "p95 ms"]);
        for (stage, latency) in [
            ("queued → picked up", &l.queued_to_picked_up),
            ("launched → online", &l.launched_to_online),
            ("online → picked up", &l.online_to_picked_up),
            ("picked up → done", &l.picked_up_to_done),
            ("queued → done", &l.queued_to_done),
        ] {
            stages.add_row([
                stage.to_owned(),
                latency.median_ms.to_string(),
                latency.p95_ms.to_string(),
            ]);
        }
        right(&mut stages, 1..=2);
        println!("\n{stages}\n");
        println!(
            "{} succeeded, {} failed, {} cancelled, {} unfinished; {} runners created",
            self.jobs_completed,
            self.jobs_failed,
            self.jobs_cancelled,
            self.jobs_unfinished,
            self.runners_created
        );
        match self.left.as_slice() {
            [] => println!("nothing is left: no process, no folder, no registration"),
            left => println!("left behind: {}", left.join(", ")),
        }
        println!(
            "{}",
            if self.ok {
                "all is as it should be"
            } else {
                "not all is as it should be"
            }
        );
        Ok(())
    }
}

async fn launched_at(store: &Store, job: &JobView) -> Result<Option<Timestamp>> {
    let Some(name) = job
        .runner_name
        .as_deref()
        .and_then(|name| name.parse().ok())
    else {
        return Ok(None);
    };
    let steps = store
        .runner(&name)
        .await?
        .map(|(_, steps)| steps)
        .unwrap_or_default();
    let launching = steps
        .into_iter()
        .find(|step| step.state == RunnerState::Launching);
    Ok(launching.map(|step| step.at))
}

fn table_row(job: &JobView, launched: Option<Timestamp>) -> [String; 7] {
    let since = |at| between(Some(job.queued_at), at).map_or("-".to_owned(), |ms| ms.to_string());
    let ended = job.conclusion.map(Conclusion::as_str);
    [
        job.name.clone(),
        job.runner_name.clone().unwrap_or_else(|| "-".into()),
        since(launched),
        since(job.runner_online_at),
        since(job.started_at),
        since(job.completed_at),
        ended.unwrap_or(job.status.as_str()).to_owned(),
    ]
}

fn jobs_table(rows: &[[String; 7]]) -> Table {
    let mut table = crate::cli::table(&[
        "job",
        "runner",
        "launched",
        "online",
        "picked up",
        "done",
        "conclusion",
    ]);
    table.add_rows(rows);
    right(&mut table, 2..=5);
    table
}

/// Sets columns of numbers to the right.
fn right(table: &mut Table, columns: std::ops::RangeInclusive<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
