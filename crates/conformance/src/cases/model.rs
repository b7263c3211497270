//! Random operations, compared with a model.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use runner_manager_core::{Connected, HealthState, InstanceId, RunnerName};

use crate::bench::{cleanup, flush, token};
use crate::case::check;
use crate::{Bench, Failure, Outcome, Verdict};

/// How many sequences are tried, and how long each is.
const SEQUENCES: u64 = 3;
const LENGTH: usize = 24;
/// How many runners there are at most.
const SLOTS: usize = 4;
/// How long a failing sequence may take to be made smaller.
const SHRINKING: Duration = Duration::from_secs(45);
/// The variable that replays one sequence.
const SEED: &str = "CONFORMANCE_SEED";

/// One operation; the number says on which of the runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Create(usize),
    CreateAgain(usize),
    Delete(usize),
    Stop(usize),
    StartJob(usize),
    Flush { busy: bool },
    Cleanup,
    OtherManager,
}

/// What the model knows of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Listening,
    Busy,
    Stopped,
}

struct Steps<'a>(&'a [Step]);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.0 {
            write!(f, "\n  {step:?}")?;
        }
        Ok(())
    }
}

fn random_step(rng: &mut impl Rng) -> Step {
    let slot = rng.random_range(0..SLOTS);
    match rng.random_range(0..14) {
        0..=4 => Step::Create(slot),
        5 => Step::CreateAgain(slot),
        6 => Step::Delete(slot),
        7 => Step::Stop(slot),
        8..=9 => Step::StartJob(slot),
        10 => Step::Flush { busy: false },
        11 => Step::Flush { busy: true },
        12 => Step::Cleanup,
        _ => Step::OtherManager,
    }
}

pub(super) async fn random_operations_do_what_the_model_says(b: Bench) -> Verdict {
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = match given {
        Some(seed) => vec![seed],
        None => (0..SEQUENCES).map(|_| rand::random()).collect(),
    };
    for seed in seeds {
        let mut rng = SmallRng::seed_from_u64(seed);
        let steps: Vec<Step> = (0..LENGTH).map(|_| random_step(&mut rng)).collect();
        let Err((at, failure)) = replay(&b, &steps).await else {
            continue;
        };
        let smallest = shrink(&b, steps[..=at].to_vec()).await;
        return Err(Failure::new(format!(
            "{failure}\nreplay with {SEED}={seed}; the smallest sequence that fails:{}",
            Steps(&smallest)
        )));
    }
    Ok(Outcome::Verified)
}

/// Leaves out steps for as long as what remains fails.
async fn shrink(b: &Bench, mut steps: Vec<Step>) -> Vec<Step> {
    let end = Instant::now() + SHRINKING;
    let mut at = 0;
    while at < steps.len() && Instant::now() < end {
        let mut fewer = steps.clone();
        fewer.remove(at);
        match replay(b, &fewer).await {
            Err((failed, _)) => {
                fewer.truncate(failed + 1);
                steps = fewer;
            }
            Ok(()) => at += 1,
        }
    }
    steps
}

/// Does the steps with a prefix of its own; the error names the step that failed.
async fn replay(b: &Bench, steps: &[Step]) -> Result<(), (usize, Failure)> {
    let bench = Bench::new(b.harness.clone());
    let mut outcome = Ok(());
    match bench.manager().await {
        Ok(manager) => {
            let mut run = Run {
                bench: bench.clone(),
                manager,
                model: BTreeMap::new(),
                slots: Default::default(),
            };
            for (at, step) in steps.iter().enumerate() {
                let done = run.step(*step).await;
                if let Err(failure) = done {
                    outcome = Err((at, failure));
                    break;
                }
            }
            flush(&run.manager, true).await;
            let left = bench.cleaned(&run.manager).await;
            outcome = outcome.and(left.map_err(|failure| (steps.len().saturating_sub(1), failure)));
        }
        Err(failure) => outcome = Err((0, failure)),
    }
    outcome
}

struct Run {
    bench: Bench,
    manager: Connected,
    model: BTreeMap<RunnerName, State>,
    slots: [Option<RunnerName>; SLOTS],
}

impl Run {
    /// The runner of a slot, and what the model knows of it.
    fn known(&self, slot: usize) -> Option<(RunnerName, State)> {
        let name = self.slots[slot].clone()?;
        let state = *self.model.get(&name)?;
        Some((name, state))
    }

    async fn step(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Create(slot) if self.known(slot).is_none() => {
                let name = self.bench.runner(&self.manager).await?;
                self.model.insert(name.clone(), State::Listening);
                self.slots[slot] = Some(name);
            }
            Step::CreateAgain(slot) => {
                if let Some((name, State::Listening | State::Busy)) = self.known(slot) {
                    let id = name.instance_id().clone();
                    let request = self.bench.harness.request(id);
                    self.manager.create_runner(request).await?;
                }
            }
            Step::Delete(slot) => {
                let known = self.known(slot).map(|(name, _)| name);
                let id = known.as_ref().map(|name| name.instance_id().clone());
                let id = id.unwrap_or_else(InstanceId::random);
                let gone = self.manager.delete_runner(&id, &token()).await?;
                check!(
                    gone.is_some() == known.is_some(),
                    "deleting {id} gave {gone:?}"
                );
                self.model.retain(|name, _| Some(name) != known.as_ref());
            }
            Step::Stop(slot) => self.reach_around(slot, State::Stopped).await?,
            Step::StartJob(slot) => self.reach_around(slot, State::Busy).await?,
            Step::Flush { busy } => {
                let flushed = flush(&self.manager, busy).await;
                check!(flushed.errors.is_empty(), "{:?}", flushed.errors);
                self.model.retain(|_, state| *state == State::Busy && !busy);
            }
            Step::Cleanup => {
                let removed = cleanup(&self.manager).await;
                check!(removed.errors.is_empty(), "{:?}", removed.errors);
                self.model.retain(|_, state| *state != State::Stopped);
            }
            Step::OtherManager => self.manager = self.bench.manager().await?,
            Step::Create(_) => {}
        }
        self.compare().await
    }

    /// Does something behind the manager's back, where it makes sense.
    async fn reach_around(&mut self, slot: usize, to: State) -> Result<(), Failure> {
        let Some((name, state)) = self.known(slot) else {
            return Ok(());
        };
        match to {
            State::Stopped if state != State::Stopped => self.bench.harness.stop(&name).await?,
            State::Busy if state == State::Listening => self.bench.start_job(&name).await?,
            _ => return Ok(()),
        }
        self.model.insert(name, to);
        Ok(())
    }

    /// What is shown is what the model knows, at the latest after a while.
    async fn compare(&self) -> Result<(), Failure> {
        let listed = self.manager.get_runners(None).await?;
        let names: Vec<&RunnerName> = listed.iter().map(|runner| &runner.name).collect();
        let same = names.len() == self.model.len();
        let same = same && names.iter().all(|name| self.model.contains_key(name));
        check!(same, "listed are {names:?}, and should be {:?}", self.model);
        for (name, state) in &self.model {
            let id = name.instance_id();
            let is_so = |runner: &runner_manager_core::CloudRunnerInstance| match state {
                State::Listening => {
                    runner.health == HealthState::Healthy && runner.busy != Some(true)
                }
                State::Busy => runner.health == HealthState::Healthy && runner.busy != Some(false),
                State::Stopped => runner.health == HealthState::Unhealthy,
            };
            let what = format!("{state:?}");
            self.bench.until(&self.manager, id, &what, is_so).await?;
        }
        Ok(())
    }
}
