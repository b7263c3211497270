//! Random operations and faults, compared with a model.

mod run;
mod steps;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Handle;

use self::run::replay;
use self::steps::{Step, Steps, sequences};
use crate::{Bench, Failure, Outcome, Verdict};

/// How many sequences are tried.
const SEQUENCES: u64 = 3;
/// How long a failing sequence may take to be made smaller, in milliseconds.
const SHRINKING_MS: u32 = 45_000;
/// The variable that replays one sequence.
const SEED: &str = "CONFORMANCE_SEED";

pub(super) async fn random_operations_do_what_the_model_says(b: Bench) -> Verdict {
    let given = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = match given {
        Some(seed) => vec![seed],
        None => (0..SEQUENCES).map(|_| rand::random()).collect(),
    };
    for seed in seeds {
        let Some((failure, smallest)) = try_one(&b, seed).await? else {
            continue;
        };
        return Err(Failure::new(format!(
            "{failure}\nreplay with {SEED}={seed}; the smallest sequence that fails:{}",
            Steps(&smallest)
        )));
    }
    Ok(Outcome::Verified)
}

/// Tries the sequence of a seed. One that fails is made smaller for as long as it still fails.
///
/// The tree in which `proptest` keeps smaller sequences stays on one thread: it is a blocking
/// one, which waits for each replay.
async fn try_one(b: &Bench, seed: u64) -> Result<Option<(String, Vec<Step>)>, Failure> {
    let (b, handle) = (b.clone(), Handle::current());
    let tried = tokio::task::spawn_blocking(move || {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases: 1,
            failure_persistence: None,
            max_shrink_time: SHRINKING_MS,
            max_shrink_iters: 4_096,
            ..Config::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        TestRunner::new_with_rng(config, rng).run(&sequences(), |steps| {
            let outcome = handle.block_on(replay(&b, &steps));
            outcome.map_err(|failure| TestCaseError::fail(failure.to_string()))
        })
    });
    match tried.await {
        Ok(Ok(())) => Ok(None),
        Ok(Err(TestError::Fail(reason, steps))) => Ok(Some((reason.to_string(), steps))),
        Ok(Err(TestError::Abort(reason))) => Err(Failure::new(reason.to_string())),
        Err(panic) => Err(Failure::new(panic.to_string())),
    }
}
