//! Runs simulations from the command line.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use runner_manager_core::Result;
use runner_manager_simulation::{Outcome, Plan, Watch, run};

/// Runs the fleet under virtual time and seeded faults, against invariants.
///
/// Exit codes: 0 all held, 1 a seed failed.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run; 1,000 without any of these options
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed; alone, the one to replay, with all that happened
    #[arg(long)]
    seed: Option<u64>,
    /// One large run of this many jobs, instead of small ones
    #[arg(long)]
    jobs: Option<usize>,
    /// Begin no further seed after this many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Begin no further seed once one has failed
    #[arg(long)]
    first_failure: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match (arguments.jobs, arguments.seeds, arguments.seed) {
        (Some(jobs), _, seed) => large(seed.unwrap_or(1), jobs),
        (None, None, Some(seed)) => replay(seed),
        (None, seeds, seed) => many(seed.unwrap_or(0), seeds.unwrap_or(1_000), &arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Shows all that happens in one run.
fn replay(seed: u64) -> Result<ExitCode> {
    let plan = Plan::small(seed);
    println!("{plan:#?}");
    // What the manager says, between what happens to it.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .init();
    let outcome = run(plan, Watch::Print)?;
    println!("{:#?}, digest {:016x}", outcome.tally, outcome.digest);
    Ok(verdict(seed, &outcome))
}

fn large(seed: u64, jobs: usize) -> Result<ExitCode> {
    let begun = Instant::now();
    let outcome = run(Plan::large(seed, jobs), Watch::Nothing)?;
    println!(
        "{jobs} jobs: {:.1} s for {:.1} virtual hours, at most {} MiB of memory",
        begun.elapsed().as_secs_f64(),
        outcome.lasted.as_secs_f64() / 3_600.0,
        peak_memory()
    );
    println!("{:#?}", outcome.tally);
    Ok(verdict(seed, &outcome))
}

fn verdict(seed: u64, outcome: &Outcome) -> ExitCode {
    match &outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("seed {seed} fails {violation}");
            ExitCode::FAILURE
        }
    }
}

/// Runs seeds on every core until one fails, all have run, or the time is over.
fn many(first: u64, seeds: u64, arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    let next = AtomicU64::new(first);
    let end = first + seeds;
    let totals = Mutex::new((0_u64, Duration::ZERO, 0_u64));
    let failed = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let over = limit.is_some_and(|limit| begun.elapsed() >= limit)
                || (arguments.first_failure && !list(&failed).is_empty());
            if seed >= end || over {
                return Ok(());
            }
            let outcome = run(Plan::small(seed), Watch::Keep)?;
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.0 += 1;
            totals.1 += outcome.lasted;
            totals.2 += outcome.tally.faults + outcome.tally.crashes;
            drop(totals);
            if let Some(violation) = outcome.violation {
                println!("seed {seed} fails {violation}\n{}\n", outcome.last);
                list(&failed).push(seed);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .try_for_each(|joined| joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let (runs, lasted, faults) = *totals.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{runs} seeds from {first}: {} failed; {faults} faults in {:.0} virtual hours, {:.1} s",
        failed.len(),
        lasted.as_secs_f64() / 3_600.0,
        begun.elapsed().as_secs_f64()
    );
    for seed in &failed {
        println!("replay: cargo xtask simulate --seed {seed}");
    }
    Ok(if failed.is_empty() && runs > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn list(failed: &Mutex<Vec<u64>>) -> std::sync::MutexGuard<'_, Vec<u64>> {
    failed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most memory that this process had, in MiB, as the kernel says.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}
