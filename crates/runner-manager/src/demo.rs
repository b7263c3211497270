//! The whole path on this machine: a simulated GitHub, real runners as processes.

mod progress;
mod report;
mod traces;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use runner_manager_core::{
    BackendContext, Budgets, Error, ErrorKind, GitHubPath, Label, Labels, NamePrefix, Result,
    Secret, SystemClock, Timings,
};
use runner_manager_fleet::{Fleet, FleetConfig, PoolConfig};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use runner_manager_github_sim::{
    Conclusion, JobSpec, JobStatus, JobView, Sim, SimConfig, write_runner_folder,
};
use runner_manager_store::Store;

use progress::Progress;
use report::{Expected, Report};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// How many jobs to run: some fail, one is cancelled while queued, one loses its runner.
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u32).range(4..=10_000))]
    jobs: u32,
    /// Keeps the work folder, and prints where it is.
    #[arg(long)]
    keep: bool,
}

const REPOSITORY: &str = "octo/hello";
const PREFIX: &str = "demo";
const LABEL: &str = "demo";
/// How many runners there may be at once.
const MAX: usize = 8;
const POLL: Duration = Duration::from_millis(100);

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::new(ErrorKind::Local, what).with_source(e)
}

fn simulated(error: runner_manager_github_sim::Error) -> Error {
    Error::new(ErrorKind::Local, "the simulated GitHub refuses").with_source(error)
}

/// Runs the demo. The exit code is 0 only when everything is as it should be.
pub(crate) async fn run(options: Options, json: bool) -> Result<ExitCode> {
    let folder = tempfile::Builder::new()
        .prefix("runner-manager-demo-")
        .tempdir()
        .map_err(failed("cannot make a work folder"))?;
    // Runners are users of their own, and have to reach their folders below this one.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).map_err(failed("cannot open the work folder"))?;
    let outcome = serve(folder.path(), options.jobs, json).await;
    if options.keep {
        eprintln!("the work folder is kept: {}", folder.keep().display());
    }
    let report = outcome?;
    report.print(json)?;
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn serve(folder: &Path, jobs: u32, json: bool) -> Result<Report> {
    let program = std::env::current_exe().map_err(failed("cannot find this program"))?;
    let runner_dir = folder.join("actions-runner");
    write_runner_folder(&runner_dir, &program).map_err(failed("cannot write the runner folder"))?;
    let sim = Sim::start(SimConfig::default()).await.map_err(simulated)?;
    let expected = queue(&sim, jobs)?;
    let store = Store::open(&folder.join("state")).await?;
    let auth = Auth::Token(Secret::new(sim.token()));
    let url = sim.url().parse().map_err(|e| {
        Error::new(ErrorKind::Unexpected, "the simulated GitHub has no URL").with_source(e)
    })?;
    let github = GitHub::new(GitHubConfig::new(url, auth))?;
    let rhythm = FleetConfig {
        poll_interval: POLL,
        cleanup_interval: Duration::from_secs(1),
        ..FleetConfig::default()
    };
    let work_dir = folder.join("work");
    let pool = pool(&work_dir, &runner_dir).await?;
    let clock = Arc::new(SystemClock);
    let fleet = Fleet::start(rhythm, vec![pool], store.clone(), github, clock).await?;
    let in_time = watch(&sim, &work_dir, &expected, json).await;
    // The last runners go by themselves: their jobs are done, or nobody needs them.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let left = loop {
        let left = traces::find(&work_dir, PREFIX, &sim);
        let stored = fleet
            .snapshot()
            .await
            .iter()
            .any(|pool| !pool.runners.is_empty());
        if (left.is_empty() && !stored) || tokio::time::Instant::now() > deadline {
            break left;
        }
        tokio::time::sleep(POLL).await;
    };
    let report = Report::new(&sim, &store, expected, left, in_time).await?;
    fleet.drain().await;
    Ok(report)
}

/// Every tenth job fails; one runs long enough to lose its runner; one is cancelled at once.
fn queue(sim: &Sim, jobs: u32) -> Result<Expected> {
    let job = |number: u32, lasting: Duration, conclusion| {
        let mut spec = JobSpec::new(REPOSITORY, &["self-hosted", LABEL]).lasting(lasting);
        spec.name = format!("job {number}");
        sim.queue_job(spec.ending(conclusion)).map_err(simulated)
    };
    let cancelled = job(1, Duration::ZERO, Conclusion::Success)?;
    sim.cancel_job(cancelled);
    let victim = job(2, Duration::from_secs(30), Conclusion::Success)?;
    let mut failing = 0;
    for number in 3..=jobs {
        let lasting = Duration::from_millis(u64::from(50 + number % 5 * 50));
        let fails = number % 10 == 3;
        failing += u32::from(fails);
        let conclusion = if fails {
            Conclusion::Failure
        } else {
            Conclusion::Success
        };
        job(number, lasting, conclusion)?;
    }
    Ok(Expected {
        jobs,
        failed: failing + 1,
        cancelled: 1,
        victim,
    })
}

async fn pool(work_dir: &Path, runner_dir: &Path) -> Result<PoolConfig> {
    let invalid =
        |e: runner_manager_core::InvalidValue| Error::new(ErrorKind::InvalidConfig, e.to_string());
    let timings = Timings {
        grace: Duration::from_secs(2),
        ..Timings::default()
    };
    let context = BackendContext {
        prefix: NamePrefix::new(PREFIX).map_err(invalid)?,
        timings: timings.clone(),
        clock: Arc::new(SystemClock),
        budgets: Budgets::default(),
    };
    let section = serde_json::json!({ "work_dir": work_dir, "runner_dir": runner_dir });
    let backend = crate::backends::find("process")?;
    let manager = (backend.connect)(context, section).await?;
    let path = GitHubPath::parse(REPOSITORY, None).map_err(invalid)?;
    let labels = Labels::new(vec![Label::new(LABEL).map_err(invalid)?]).map_err(invalid)?;
    Ok(PoolConfig {
        boot_deadline: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(1),
        grace: timings.grace,
        max_concurrent_launches: MAX,
        ..PoolConfig::new(PREFIX, backend.scheme, manager, path, labels, MAX)
    })
}

/// Shows progress, and kills the victim's runner once it runs its job. Answers whether all jobs
/// ended before the deadline.
async fn watch(sim: &Sim, work_dir: &Path, expected: &Expected, json: bool) -> bool {
    let limit = Duration::from_secs(60) + Duration::from_secs(2) * expected.jobs;
    let deadline = tokio::time::Instant::now() + limit;
    let mut killed = false;
    let mut progress = Progress::new(expected.jobs as usize, MAX, json);
    let in_time = loop {
        let jobs = sim.jobs();
        let running =
            |job: &&JobView| job.id == expected.victim && job.status == JobStatus::InProgress;
        if let Some(runner) = jobs
            .iter()
            .find(running)
            .and_then(|job| job.runner_name.as_deref())
            && !killed
        {
            killed = traces::kill_listener(work_dir, runner);
        }
        progress.show(&jobs);
        if jobs.iter().all(|job| job.status == JobStatus::Completed) {
            break true;
        }
        if tokio::time::Instant::now() > deadline {
            break false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    progress.finish();
    in_time
}
