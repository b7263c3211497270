//! The suite against a reference in memory: it passes, and with a bug planted it does not.

#![expect(clippy::unwrap_used, reason = "a test")]

mod cloud;
mod guest;
mod harness;
mod launch;
mod mutant;
mod mutation;
mod remove;
mod world;

use std::sync::Arc;

use harness::MemoryHarness;
use mutation::Mutation;
use runner_manager_conformance::{Outcome, cases, run_case};

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_keeps_the_contract() {
    let harness = Arc::new(MemoryHarness::new(None));
    for case in cases() {
        let outcome = run_case(harness.clone(), case).await;
        match outcome {
            Ok(Outcome::Verified) => {}
            other => panic!("{}: {}", case.name, describe(other)),
        }
    }
}

fn describe(verdict: runner_manager_conformance::Verdict) -> String {
    match verdict {
        Ok(outcome) => format!("{outcome:?}"),
        Err(failure) => failure.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutation_is_killed() {
    let mut killed = 0;
    for &mutation in Mutation::ALL {
        let harness = Arc::new(MemoryHarness::new(Some(mutation)));
        let mut killer = None;
        for case in cases() {
            if !mutation.killers().contains(&case.name) {
                continue;
            }
            if run_case(harness.clone(), case).await.is_err() {
                killer = Some(case.name);
                break;
            }
        }
        let killer = killer.unwrap_or_else(|| panic!("{mutation:?} survived its cases"));
        println!("{mutation:?} is killed by {killer}");
        killed += 1;
    }
    for (mutation, number) in Mutation::PEERS {
        println!("{mutation:?} is the known bug {number} of others");
    }
    println!("mutations: {killed} of {} killed", Mutation::ALL.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_finds_bugs_by_itself_and_makes_them_small() {
    let all = cases();
    let model = all
        .iter()
        .find(|case| case.name.starts_with("model::"))
        .unwrap();
    for mutation in [Mutation::IdleStopKillsJobs, Mutation::CleanupDoesNothing] {
        let harness = Arc::new(MemoryHarness::new(Some(mutation)));
        let mut found = None;
        // Three random sequences may miss a bug; a hundred do not.
        for _ in 0..100 {
            if let Err(failure) = run_case(harness.clone(), *model).await {
                found = Some(failure.to_string());
                break;
            }
        }
        let found = found.unwrap_or_else(|| panic!("{mutation:?} was not found"));
        assert!(found.contains("CONFORMANCE_SEED="), "{found}");
        let steps = found.lines().filter(|line| line.starts_with("  ")).count();
        assert!((2..=4).contains(&steps), "not small: {found}");
    }
}
