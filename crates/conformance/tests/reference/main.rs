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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use harness::MemoryHarness;
use mutation::{Mutation, Variant};
use runner_manager_conformance::{Case, Failure, Outcome, Verdict, cases, run_case};

/// How much is tried at once: most of it waits.
const AT_ONCE: usize = 12;

/// The bugs of others that can happen below the fleet, by their number in the list of them.
const PEERS: [u8; 15] = [1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 16, 17, 20, 21, 22];

fn describe(verdict: Verdict) -> String {
    match verdict {
        Ok(outcome) => format!("{outcome:?}"),
        Err(failure) => failure.to_string(),
    }
}

/// Every case, in one variant.
async fn all_hold(variant: Variant) -> BTreeMap<&'static str, Outcome> {
    let harness = Arc::new(MemoryHarness::new(variant, None));
    let run = |case: Case| {
        let harness = harness.clone();
        async move { (case.name, run_case(harness, case).await) }
    };
    let verdicts = futures::stream::iter(cases()).map(run);
    let verdicts: Vec<_> = verdicts.buffer_unordered(AT_ONCE).collect().await;
    let mut held = BTreeMap::new();
    let mut wrong = Vec::new();
    for (name, verdict) in verdicts {
        match verdict {
            Ok(outcome) => {
                held.insert(name, outcome);
            }
            Err(failure) => wrong.push(format!("{name}: {failure}")),
        }
    }
    assert!(wrong.is_empty(), "{variant:?}:\n{}", wrong.join("\n"));
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_keeps_the_contract() {
    let held = all_hold(Variant::Full).await;
    let refused: Vec<_> = held
        .iter()
        .filter(|(_, o)| **o != Outcome::Verified)
        .collect();
    let only = [
        "create::each_credential_is_used_or_refused",
        "create::services_that_cannot_be_had_are_refused",
    ];
    let names: Vec<_> = refused.iter().map(|(name, _)| **name).collect();
    assert_eq!(names, only, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_variant_cannot_do_it_refuses() {
    for (variant, at_least) in [(Variant::NoGuest, 15), (Variant::NoToken, 2)] {
        let held = all_hold(variant).await;
        let refused = held.values().filter(|o| matches!(o, Outcome::Refused(_)));
        let refused = refused.count();
        assert!(refused >= at_least, "{variant:?} refuses {refused}");
    }
}

/// Plants a bug; fails unless each case that must find it does, for the reason it should.
async fn plant(mutation: Mutation) -> Result<(), String> {
    let all = cases();
    let harness = Arc::new(MemoryHarness::new(mutation.variant(), Some(mutation)));
    for (name, because) in mutation.killers() {
        let case = all.iter().find(|case| case.name == *name);
        let case = case.ok_or_else(|| format!("{mutation:?} names the unknown case {name}"))?;
        let verdict = run_case(harness.clone(), *case).await;
        match verdict {
            Err(Failure::Wrong(text)) if text.contains(because) => {}
            other => {
                let other = describe(other);
                return Err(format!(
                    "{mutation:?} in {name}, not because {because:?}: {other}"
                ));
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutation_is_killed_and_every_case_kills() {
    let plants = futures::stream::iter(Mutation::ALL).map(|mutation| plant(*mutation));
    let outcomes: Vec<_> = plants.buffer_unordered(AT_ONCE).collect().await;
    let survived: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    let killed = Mutation::ALL.len() - survived.len();
    println!("mutations: {killed} of {} killed", Mutation::ALL.len());
    assert!(survived.is_empty(), "survived:\n{}", survived.join("\n"));

    let killers = Mutation::ALL.iter().flat_map(|mutation| mutation.killers());
    let mut biting: BTreeSet<&str> = killers.map(|(name, _)| *name).collect();
    biting.insert(MODEL);
    let all = cases();
    let idle: Vec<_> = all
        .iter()
        .filter(|case| !biting.contains(case.name))
        .collect();
    let idle: Vec<_> = idle.into_iter().map(|case| case.name).collect();
    println!(
        "cases: {} of {} kill a mutation",
        all.len() - idle.len(),
        all.len()
    );
    assert!(idle.is_empty(), "no mutation is killed by {idle:?}");
}

#[test]
fn the_bugs_of_others_are_among_the_mutations() {
    let planted: BTreeSet<u8> = Mutation::PEERS.iter().map(|(_, number)| *number).collect();
    let known: BTreeSet<u8> = PEERS.into_iter().collect();
    println!("bugs of others that are planted: {planted:?}");
    assert_eq!(planted, known);
}

/// The case of random operations, which has a test of its own.
const MODEL: &str = "model::random_operations_do_what_the_model_says";

#[tokio::test(flavor = "multi_thread")]
async fn the_model_finds_bugs_by_itself_and_makes_them_small() {
    let all = cases();
    let model = all.iter().find(|case| case.name == MODEL).unwrap();
    for mutation in [Mutation::IdleStopKillsJobs, Mutation::CleanupDoesNothing] {
        let harness = Arc::new(MemoryHarness::new(Variant::Full, Some(mutation)));
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
