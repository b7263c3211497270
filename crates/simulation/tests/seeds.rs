//! A few dozen seeds with every `cargo test`; `cargo xtask test --only simulation` runs
//! thousands.

use runner_manager_simulation::{Plan, Watch, run};

/// The seed to replay instead of all.
const VARIABLE: &str = "SIMULATION_SEED";

fn holds(seed: u64) -> runner_manager_simulation::Outcome {
    let outcome = run(Plan::small(seed), Watch::Keep).expect("the simulation can be set up");
    if let Some(violation) = &outcome.violation {
        panic!(
            "seed {seed} fails {violation}\nreplay: cargo xtask simulate --seed {seed}\n{}",
            outcome.last
        );
    }
    outcome
}

#[test]
fn the_invariants_hold() {
    if let Ok(seed) = std::env::var(VARIABLE) {
        holds(seed.parse().expect("a seed is a number"));
        return;
    }
    let (mut crashes, mut faults) = (0, 0);
    for seed in 0..60 {
        let tally = holds(seed).tally;
        crashes += tally.crashes;
        faults += tally.faults;
    }
    // A simulation in which nothing goes wrong shows nothing.
    assert!(crashes > 20 && faults > 500, "{crashes} {faults}");
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in 0..12 {
        let (one, two) = (holds(seed), holds(seed));
        assert_eq!(one.digest, two.digest, "seed {seed}");
        assert_eq!(one.tally, two.tally, "seed {seed}");
        let other = holds(seed + 1_000);
        assert_ne!(one.digest, other.digest, "seed {seed}");
    }
}
