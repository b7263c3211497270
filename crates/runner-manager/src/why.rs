//! Where a job's time went, and who is to blame.

use jiff::{SignedDuration, Timestamp};
use runner_manager_fleet::NO_JOBS;
use runner_manager_store::{FailureRow, JobRow, JobStatus, RunnerState, Step};
use serde::Serialize;

/// One stretch of a job's life.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Stage {
    stage: &'static str,
    /// Who took the time.
    blame: &'static str,
    milliseconds: i64,
    /// Whether it goes on.
    open: bool,
}

/// Whether runners that match a job were online and idle beside it, and GitHub gave them no job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ghosts {
    Seen,
    None,
}

/// GitHub's clock may differ by this much, and its times are whole seconds.
const CLOCKS: SignedDuration = SignedDuration::from_secs(30);

/// Those among the failures of a job's pool.
pub(crate) fn ghosts(job: &JobRow, failures: &[FailureRow]) -> Ghosts {
    let end = job.started_at.or(job.completed_at);
    let beside = |failure: &&FailureRow| {
        failure.class == NO_JOBS
            && failure.at.duration_since(job.queued_at) >= -CLOCKS
            && end.is_none_or(|end| failure.at.duration_since(end) <= CLOCKS)
    };
    match failures.iter().find(beside) {
        Some(_) => Ghosts::Seen,
        None => Ghosts::None,
    }
}

/// Cuts the life of a job into stages. The steps are those of its runner, none before it has one.
pub(crate) fn explain(job: &JobRow, steps: &[Step], ghosts: Ghosts, now: Timestamp) -> Vec<Stage> {
    let reached = |states: &[RunnerState]| {
        let first = steps.iter().find(|step| states.contains(&step.state));
        first.map(|step| step.at)
    };
    let waits = if job.labels.is_empty() {
        "configuration: the job has no labels, so that it is for no pool; give it `runs-on` with a pool's labels"
    } else if job.pool.is_none() {
        "configuration: no pool takes these labels in this repository"
    } else if ghosts == Ghosts::Seen {
        "GitHub: runners that match it were online and idle, and were not given it; see `failures list`"
    } else {
        "capacity: no place was free, or GitHub had not told yet"
    };
    use RunnerState::{Booting, Busy, Idle, Launching, Requested};
    let marks = [
        ("waited for a runner", waits, reached(&[Requested])),
        (
            "registered the runner",
            "GitHub and the manager",
            reached(&[Launching]),
        ),
        ("made the instance", "the backend", reached(&[Booting])),
        (
            "booted and came online",
            "the instance",
            reached(&[Idle, Busy]),
        ),
        (
            "waited for GitHub to hand over the job",
            "GitHub",
            job.started_at,
        ),
        ("ran", "the job", job.completed_at),
    ];
    // A cancelled job never ran; what its runner did later is not its time.
    let end = job.completed_at.unwrap_or(now);
    let mut stages = Vec::new();
    let mut since = job.queued_at;
    for (stage, blame, until) in marks {
        let is_over = until.is_some() || job.status == JobStatus::Completed;
        // What was there before the job cost it nothing; clocks that differ do not count back.
        let until = until.unwrap_or(end).clamp(since, end.max(since));
        let milliseconds = until.duration_since(since).as_millis();
        stages.push(Stage {
            stage,
            blame,
            milliseconds: i64::try_from(milliseconds).unwrap_or(i64::MAX),
            open: !is_over,
        });
        since = until;
        if !is_over || until == end {
            break;
        }
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + milliseconds).unwrap()
    }

    fn job(pool: Option<&str>, started: Option<i64>, completed: Option<i64>) -> JobRow {
        JobRow {
            id: 1,
            name: "build".into(),
            repository: "octo/hello".into(),
            labels: vec!["linux".into()],
            pool: pool.map(Into::into),
            status: match (started, completed) {
                (_, Some(_)) => JobStatus::Completed,
                (Some(_), None) => JobStatus::InProgress,
                (None, None) => JobStatus::Queued,
            },
            conclusion: None,
            runner: None,
            queued_at: at(0),
            started_at: started.map(at),
            completed_at: completed.map(at),
        }
    }

    fn steps(all: &[(RunnerState, i64)]) -> Vec<Step> {
        let step = |(state, time): &(RunnerState, i64)| Step {
            state: *state,
            at: at(*time),
            note: None,
        };
        all.iter().map(step).collect()
    }

    fn times(stages: &[Stage]) -> Vec<i64> {
        stages.iter().map(|stage| stage.milliseconds).collect()
    }

    #[test]
    fn the_stages_add_up_to_the_whole() {
        use RunnerState::{Booting, Busy, Idle, Launching, Requested};
        let all = [
            (Requested, 100),
            (Launching, 110),
            (Booting, 300),
            (Idle, 900),
            (Busy, 1200),
        ];
        let told = explain(
            &job(Some("p"), Some(1000), Some(5000)),
            &steps(&all),
            Ghosts::None,
            at(9000),
        );
        assert_eq!(times(&told), [100, 10, 190, 600, 100, 4000]);
        assert!(told.iter().all(|stage| !stage.open));
        // An idle runner was there before the job.
        let early = [
            (Requested, -900),
            (Launching, -800),
            (Booting, -500),
            (Idle, -100),
        ];
        let told = explain(
            &job(Some("p"), Some(50), None),
            &steps(&early),
            Ghosts::None,
            at(60),
        );
        assert_eq!(times(&told), [0, 0, 0, 0, 50, 10]);
        assert!(told[5].open);
    }

    #[test]
    fn a_job_that_waits_says_for_whom() {
        let told = explain(&job(None, None, None), &[], Ghosts::None, at(700));
        assert_eq!(times(&told), [700]);
        assert!(told[0].open && told[0].blame.starts_with("configuration"));
        let mut bare = job(None, None, None);
        bare.labels.clear();
        assert!(
            explain(&bare, &[], Ghosts::None, at(700))[0]
                .blame
                .contains("no labels")
        );
        let cancelled = explain(&job(Some("p"), None, Some(300)), &[], Ghosts::None, at(700));
        assert_eq!(times(&cancelled), [300]);
        assert!(!cancelled[0].open);
    }
}
