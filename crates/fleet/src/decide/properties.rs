//! What holds for every decision, whatever was seen.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn registered() -> impl Strategy<Value = Registered> {
    prop_oneof![
        Just(Registered::Unseen),
        (0..200_u32).prop_map(|s| Registered::Absent(SECOND * s)),
        (0..200_u32).prop_map(|s| Registered::Offline(SECOND * s)),
        Just(Registered::Online),
        Just(Registered::Busy),
    ]
}

fn instance() -> impl Strategy<Value = Instance> {
    let health = prop_oneof![
        Just(HealthState::Healthy),
        Just(HealthState::Unhealthy),
        Just(HealthState::Unknown),
    ];
    let present = (health, proptest::option::of(any::<bool>()));
    prop_oneof![
        Just(Instance::Unseen),
        Just(Instance::Unlisted),
        Just(Instance::Absent),
        present.prop_map(|(health, busy)| Instance::Present { health, busy }),
    ]
}

fn runners() -> impl Strategy<Value = Vec<RunnerFacts>> {
    let state = proptest::sample::select(&RunnerState::ALL[..7]);
    let overdue = proptest::sample::select(&[Overdue::Boot, Overdue::Install][..]);
    let one = (
        state,
        0..2_000_u32,
        0..2_000_u32,
        registered(),
        instance(),
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(overdue),
        proptest::option::of((0..2_000_u32).prop_map(|s| SECOND * s)),
    );
    let facts =
        |(state, in_state, age, registered, instance, held, outdated, overdue, suspected)| {
            RunnerFacts {
                name: "app-000000000000".parse().unwrap(),
                state,
                in_state: SECOND * in_state,
                age: SECOND * age,
                age_when_seen: SECOND * age,
                idle_when_seen: SECOND * in_state,
                suspected,
                overdue,
                outdated,
                registered,
                instance,
                held,
            }
        };
    let named = |(id, runner): (usize, RunnerFacts)| RunnerFacts {
        name: format!("app-{id:012x}").parse().unwrap(),
        ..runner
    };
    proptest::collection::vec(one.prop_map(facts), 0..20)
        .prop_map(move |all| all.into_iter().enumerate().map(named).collect())
}

fn pool() -> impl Strategy<Value = PoolFacts> {
    let numbers = (
        0..30_usize,
        0..10_usize,
        0..20_usize,
        0..10_usize,
        0..4_usize,
    );
    numbers.prop_map(
        |(demand, min_idle, max, launch_budget, replacements)| PoolFacts {
            demand,
            min_idle: min_idle.min(max),
            max,
            boot_deadline: 600 * SECOND,
            idle_timeout: 60 * SECOND,
            max_idle_age: Some(600 * SECOND),
            replacements,
            lost_after: 120 * SECOND,
            launch_budget,
            stalled: demand / 2,
            suspect_after: 120 * SECOND,
        },
    )
}

fn launched(actions: &[Action]) -> usize {
    let count = |action: &Action| match action {
        Action::Launch(count) => *count,
        _ => 0,
    };
    actions.iter().map(count).sum()
}

fn is_dead(runner: &RunnerFacts) -> bool {
    let unhealthy = HealthState::Unhealthy;
    match runner.instance {
        Instance::Absent => true,
        Instance::Present { health, .. } => health == unhealthy,
        Instance::Unseen | Instance::Unlisted => false,
    }
}

proptest! {
    #[test]
    fn a_pool_never_grows_above_max_nor_its_budget_nor_without_need(
        pool in pool(), runners in runners()
    ) {
        let launches = launched(&decide(&pool, &runners));
        prop_assert!(launches == 0 || runners.len() + launches <= pool.max);
        prop_assert!(launches <= pool.launch_budget);
        prop_assert!(launches <= pool.demand + pool.min_idle);
    }

    #[test]
    fn a_runner_with_a_job_is_never_removed_while_its_instance_lives(
        pool in pool(), runners in runners()
    ) {
        for action in decide(&pool, &runners) {
            let Action::Remove(name, why, _) = action else { continue };
            let runner = runners.iter().find(|r| r.name == name).unwrap();
            let begun = matches!(runner.state, RunnerState::Finished | RunnerState::Deleting);
            let works = matches!(runner.instance, Instance::Present { busy: Some(true), .. });
            let busy = works || runner.registered == Registered::Busy;
            let late = matches!(why, Why::Late | Why::Overdue(_)) && !works;
            prop_assert!(!busy || is_dead(runner) || begun || late, "{why:?} {runner:?}");
            prop_assert!(!runner.held, "one operation at a time");
        }
    }

    #[test]
    fn only_idle_runners_are_replaced_and_only_so_many(pool in pool(), runners in runners()) {
        let mut replaced = 0;
        for action in decide(&pool, &runners) {
            let Action::Remove(name, Why::Outdated | Why::Aged | Why::Excess, order) = action else {
                continue;
            };
            let runner = runners.iter().find(|r| r.name == name).unwrap();
            prop_assert_eq!(runner.state, RunnerState::Idle);
            prop_assert_eq!(order, Order::RegistrationFirst);
        }
        for action in decide(&pool, &runners) {
            replaced += usize::from(matches!(action, Action::Remove(_, Why::Outdated | Why::Aged, _)));
        }
        prop_assert!(replaced <= pool.replacements);
    }

    /// What is launched is missing: runners that can take a job, new ones and those that stay,
    /// are never more than jobs and min idle ask for.
    #[test]
    fn no_runner_is_launched_that_is_not_missing(pool in pool(), runners in runners()) {
        let actions = decide(&pool, &runners);
        let launches = launched(&actions);
        let goes = |r: &&RunnerFacts| {
            !actions.iter().any(|a| matches!(a, Action::Remove(name, ..) if *name == r.name))
        };
        let free = |r: &&RunnerFacts| {
            matches!(judge(&pool, r, progress(r)), Verdict::Free)
        };
        let stay = runners.iter().filter(goes).filter(free).count();
        prop_assert!(launches == 0 || stay + launches <= pool.demand + pool.min_idle);
    }

    #[test]
    fn each_runner_gets_one_action_and_each_step_is_of_the_state_machine(
        pool in pool(), runners in runners()
    ) {
        let mut seen = std::collections::HashSet::new();
        for action in decide(&pool, &runners) {
            match action {
                Action::Advance(name, to) => {
                    let runner = runners.iter().find(|r| r.name == name).unwrap();
                    prop_assert!(runner.state.may_become(to), "{runner:?} to {to}");
                    prop_assert!(!runner.held, "an operation is under way: {runner:?}");
                    prop_assert!(seen.insert(name));
                }
                Action::Remove(name, why, _) => {
                    let runner = runners.iter().find(|r| r.name == name).unwrap();
                    let to = match why {
                        Why::Ended => RunnerState::Finished,
                        _ => RunnerState::Deleting,
                    };
                    let begun = runner.state == RunnerState::Deleting;
                    prop_assert!(begun || runner.state.may_become(to), "{runner:?} to {to}");
                    prop_assert!(seen.insert(name));
                }
                Action::Ask(name) | Action::Suspect(name) => prop_assert!(seen.insert(name)),
                Action::Launch(_) => {}
            }
        }
    }

    /// A world without faults: every launch becomes an idle runner, every idle runner takes a
    /// job, every job ends.
    #[test]
    fn every_job_is_served(jobs in 0..200_usize, max in 1..20_usize, budget in 1..10_usize) {
        let (mut waiting, mut runners) = (jobs, Vec::<RunnerFacts>::new());
        let mut next = 0_usize;
        for _ in 0..(10 * jobs + 20) {
            let pool = PoolFacts {
                demand: waiting,
                min_idle: 0,
                max,
                boot_deadline: 600 * SECOND,
                idle_timeout: Duration::ZERO,
                max_idle_age: None,
                replacements: 0,
                lost_after: 120 * SECOND,
                launch_budget: budget,
                stalled: 0,
                suspect_after: 120 * SECOND,
            };
            for action in decide(&pool, &runners) {
                match action {
                    Action::Launch(count) => for _ in 0..count {
                        next += 1;
                        runners.push(RunnerFacts {
                            name: format!("app-{next:012x}").parse().unwrap(),
                            state: RunnerState::Booting,
                            in_state: SECOND,
                            age: SECOND,
                            age_when_seen: SECOND,
                            idle_when_seen: SECOND,
                            suspected: None,
                            overdue: None,
                            outdated: false,
                            registered: Registered::Online,
                            instance: Instance::Present { health: HealthState::Healthy, busy: Some(false) },
                            held: false,
                        });
                    },
                    Action::Ask(name) => for runner in runners.iter_mut().filter(|r| r.name == name) {
                        runner.instance = Instance::Absent;
                    },
                    Action::Suspect(_) => {}
                    Action::Remove(name, ..) => runners.retain(|r| r.name != name),
                    Action::Advance(name, to) => {
                        for runner in runners.iter_mut().filter(|r| r.name == name) {
                            runner.state = to;
                        }
                    }
                }
            }
            prop_assert!(runners.len() <= max);
            for runner in &mut runners {
                match runner.registered {
                    Registered::Busy if runner.instance == Instance::Absent => {}
                    Registered::Busy => runner.instance = Instance::Unlisted,
                    _ if waiting > 0 => {
                        waiting -= 1;
                        runner.registered = Registered::Busy;
                    }
                    _ => {}
                }
            }
        }
        prop_assert_eq!((waiting, runners.len()), (0, 0));
    }
}
