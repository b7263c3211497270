//! What one run is made of, drawn from its seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One run: the pools, the jobs, and what goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Decides everything that chance decides.
    pub seed: u64,
    /// How many jobs are queued.
    pub jobs: usize,
    /// They arrive within this time, in bursts.
    pub arrivals: Duration,
    /// How long a job runs at most.
    pub longest_job: Duration,
    /// How many jobs one workflow run holds.
    pub jobs_per_run: u64,
    /// The pools; the jobs ask for the labels of one of them.
    pub pools: Vec<PoolPlan>,
    /// How often the fleet looks.
    pub poll: Duration,
    /// How long an instance takes from its launch until its runner is online.
    pub boot: Duration,
    /// What goes wrong.
    pub faults: Faults,
    /// How often the manager is cut off at a random step.
    pub crashes: u32,
}

/// How a pool hears of its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By webhooks, and by looking at what is queued.
    Queue,
    /// By the queue of a scale set.
    ScaleSet,
    /// By a planner's numbers.
    Planner,
}

/// One pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolPlan {
    /// Its name and prefix.
    pub name: &'static str,
    /// Its own label.
    pub label: &'static str,
    /// How it hears of jobs.
    pub source: Source,
    /// See the fleet's configuration, as for all that follows.
    pub priority: i32,
    /// Waiting runners.
    pub min_idle: usize,
    /// The most runners.
    pub max: usize,
    /// Until a runner must be online.
    pub boot_deadline: Duration,
    /// How long a runner that nobody needs may wait.
    pub idle_timeout: Duration,
    /// Launches at once.
    pub launches: usize,
}

/// How likely each fault is, from 0 to 1, until the last job has arrived. Then the world is calm,
/// and everything has to come right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Faults {
    /// A call of GitHub: 502, without effect.
    pub github_error: f64,
    /// A call of GitHub: took effect, and its answer is lost.
    pub github_unanswered: f64,
    /// A call of GitHub: 429.
    pub github_throttled: f64,
    /// A call of GitHub: 502, and so for all calls of some minutes.
    pub github_down: f64,
    /// A webhook that never comes.
    pub webhook_lost: f64,
    /// A webhook that comes twice.
    pub webhook_twice: f64,
    /// A call of the Actions service: 401, as for a token that is not good any more.
    pub token_refused: f64,
    /// A question for the messages of a scale set: the session is gone.
    pub session_lost: f64,
    /// The planner's stream: refused, or broken off before its next line.
    pub planner_away: f64,
    /// A launch: no capacity.
    pub no_capacity: f64,
    /// A call of the cloud: an error, without effect.
    pub cloud_error: f64,
    /// A list of the cloud: lacks about half of what there is.
    pub list_incomplete: f64,
    /// A launch or a termination: took effect, and answers with an error.
    pub cloud_unanswered: f64,
    /// An instance that boots far too slowly.
    pub slow_boot: f64,
    /// An instance that never comes online.
    pub dead_boot: f64,
    /// A runner that comes online and is given no job, in a pool without a planner.
    pub ghost: f64,
    /// An instance that dies in the middle of a job.
    pub dies: f64,
    /// A machine that is about to be ended: a job comes for its runner just then.
    pub job_in_between: f64,
    /// A look into a guest that times out.
    pub guest_silent: f64,
    /// A write to the database.
    pub store_error: f64,
    /// A job that is cancelled while it waits.
    pub cancelled: f64,
    /// Within five seconds: the last of several pools leaves the configuration, for a while.
    pub reloaded: f64,
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        github_error: 0.0,
        github_unanswered: 0.0,
        github_throttled: 0.0,
        github_down: 0.0,
        webhook_lost: 0.0,
        webhook_twice: 0.0,
        token_refused: 0.0,
        session_lost: 0.0,
        planner_away: 0.0,
        no_capacity: 0.0,
        cloud_error: 0.0,
        list_incomplete: 0.0,
        cloud_unanswered: 0.0,
        slow_boot: 0.0,
        dead_boot: 0.0,
        ghost: 0.0,
        dies: 0.0,
        job_in_between: 0.0,
        guest_silent: 0.0,
        store_error: 0.0,
        cancelled: 0.0,
        reloaded: 0.0,
    };

    /// Each fault is left out, rare or frequent.
    fn random(rng: &mut StdRng) -> Self {
        let mut likely = |most: f64| match rng.random_range(0..4) {
            0 | 1 => 0.0,
            2 => most / 8.0,
            _ => most,
        };
        Self {
            github_error: likely(0.3),
            github_unanswered: likely(0.2),
            github_throttled: likely(0.05),
            github_down: likely(0.04),
            webhook_lost: likely(0.8),
            webhook_twice: likely(0.5),
            token_refused: likely(0.2),
            session_lost: likely(0.2),
            planner_away: likely(0.3),
            no_capacity: likely(0.5),
            cloud_error: likely(0.3),
            list_incomplete: likely(0.5),
            cloud_unanswered: likely(0.3),
            slow_boot: likely(0.3),
            dead_boot: likely(0.3),
            ghost: likely(0.3),
            dies: likely(0.2),
            job_in_between: likely(0.8),
            guest_silent: likely(0.3),
            store_error: likely(0.05),
            cancelled: likely(0.5),
            reloaded: likely(0.03),
        }
    }

    /// Whether nothing goes wrong.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

const SECOND: Duration = Duration::from_secs(1);

impl Plan {
    /// A small run with whatever the seed wants: every fourth without faults, every third
    /// without crashes.
    #[must_use]
    pub fn small(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let faults = if seed.is_multiple_of(4) {
            Faults::NONE
        } else {
            Faults::random(&mut rng)
        };
        let names = [("app", "small"), ("app-1", "large")];
        let count = rng.random_range(1..=names.len());
        let boot = SECOND * rng.random_range(8..40);
        let pools = names[..count]
            .iter()
            .map(|(name, label)| PoolPlan::random(&mut rng, name, label, boot));
        let pools = pools.collect();
        Self {
            seed,
            jobs: rng.random_range(1..25),
            arrivals: SECOND * rng.random_range(1..900),
            longest_job: SECOND * rng.random_range(2..300),
            jobs_per_run: rng.random_range(1..6),
            pools,
            poll: SECOND * rng.random_range(20..90),
            boot,
            faults,
            crashes: if seed.is_multiple_of(3) {
                0
            } else {
                rng.random_range(0..5)
            },
        }
    }

    /// A large run: many jobs through one pool, with some of every fault and a few crashes.
    #[must_use]
    pub fn large(seed: u64, jobs: usize) -> Self {
        let boot = 20 * SECOND;
        Self {
            seed,
            jobs,
            arrivals: SECOND * u32::try_from(jobs / 4 + 1).unwrap_or(u32::MAX),
            longest_job: 120 * SECOND,
            jobs_per_run: 50,
            pools: vec![PoolPlan {
                name: "app",
                label: "small",
                source: Source::Queue,
                priority: 0,
                min_idle: 20,
                max: 500,
                boot_deadline: 300 * SECOND,
                idle_timeout: 300 * SECOND,
                launches: 100,
            }],
            poll: 300 * SECOND,
            boot,
            faults: Faults {
                github_error: 0.01,
                github_unanswered: 0.002,
                webhook_lost: 0.01,
                webhook_twice: 0.01,
                no_capacity: 0.01,
                cloud_error: 0.01,
                list_incomplete: 0.01,
                cloud_unanswered: 0.005,
                slow_boot: 0.01,
                dead_boot: 0.01,
                dies: 0.005,
                cancelled: 0.01,
                ..Faults::NONE
            },
            crashes: 5,
        }
    }

    /// How long after the last arrival everything must have come right: every job done, as many
    /// runners as are to wait, nothing left over.
    pub(crate) fn patience(&self) -> Duration {
        let places: usize = self.pools.iter().map(|pool| pool.max).min().unwrap_or(1);
        let rounds = u32::try_from(self.jobs.div_ceil(places.max(1))).unwrap_or(u32::MAX);
        let round = self.longest_job + self.boot * 3 + self.poll * 3;
        let deadline = |pool: &PoolPlan| pool.boot_deadline + pool.idle_timeout;
        let longest = self.pools.iter().map(deadline).max().unwrap_or_default();
        // The longest pauses after failures are five minutes, and one may lead to the next.
        round * rounds + longest * 2 + SECOND * 3_600
    }
}

impl PoolPlan {
    /// Whether its runners can take jobs with these labels.
    pub(crate) fn fits(&self, labels: &[String]) -> bool {
        labels.iter().all(|l| l == "Self-Hosted" || l == self.label)
    }

    fn random(rng: &mut StdRng, name: &'static str, label: &'static str, boot: Duration) -> Self {
        let max = rng.random_range(1..8);
        Self {
            name,
            label,
            source: match rng.random_range(0..10) {
                0..3 => Source::ScaleSet,
                3..5 => Source::Planner,
                _ => Source::Queue,
            },
            priority: rng.random_range(0..3),
            min_idle: rng.random_range(0..=max.min(3)),
            max,
            boot_deadline: boot * 2 + SECOND * rng.random_range(30..200),
            // Often short, so that idle runners go while jobs still come.
            idle_timeout: if rng.random_bool(0.5) {
                SECOND * rng.random_range(0..20)
            } else {
                SECOND * rng.random_range(20..300)
            },
            launches: rng.random_range(1..8),
        }
    }
}
