//! The decision, case by case.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const WELL: Instance = Instance::Present {
    health: HealthState::Healthy,
    busy: Some(false),
};

fn pool() -> PoolFacts {
    PoolFacts {
        demand: 0,
        min_idle: 0,
        max: 10,
        boot_deadline: 300 * SECOND,
        idle_timeout: 60 * SECOND,
        max_idle_age: None,
        replacements: 0,
        lost_after: 60 * SECOND,
        launch_budget: 8,
        stalled: 0,
        suspect_after: 120 * SECOND,
    }
}

fn runner(id: u32, state: RunnerState) -> RunnerFacts {
    RunnerFacts {
        name: format!("app-{id:012x}").parse().unwrap(),
        state,
        in_state: SECOND,
        age: SECOND,
        age_when_seen: SECOND,
        idle_when_seen: SECOND,
        suspected: None,
        overdue: None,
        outdated: false,
        registered: Registered::Unseen,
        instance: WELL,
        held: false,
    }
}

fn launches(pool: &PoolFacts, runners: &[RunnerFacts]) -> usize {
    let launch = |action| match action {
        Action::Launch(count) => count,
        _ => 0,
    };
    decide(pool, runners).into_iter().map(launch).sum()
}

#[test]
fn size_is_demand_and_min_idle_within_max_and_budget() {
    let pool = PoolFacts {
        demand: 3,
        min_idle: 2,
        ..pool()
    };
    assert_eq!(launches(&pool, &[]), 5);
    let held = RunnerFacts {
        held: true,
        ..runner(1, RunnerState::Launching)
    };
    let some = [
        held,
        runner(2, RunnerState::Booting),
        runner(3, RunnerState::Busy),
    ];
    assert_eq!(launches(&pool, &some), 3);
    assert_eq!(
        launches(
            &PoolFacts {
                max: 4,
                ..pool.clone()
            },
            &some
        ),
        1
    );
    assert_eq!(
        launches(
            &PoolFacts {
                max: 2,
                ..pool.clone()
            },
            &some
        ),
        0
    );
    assert_eq!(
        launches(
            &PoolFacts {
                launch_budget: 2,
                ..pool
            },
            &some
        ),
        2
    );
}

#[test]
fn a_late_runner_is_no_capacity_and_is_removed() {
    let pool = PoolFacts {
        demand: 1,
        ..pool()
    };
    let late = RunnerFacts {
        age_when_seen: HOUR,
        ..runner(1, RunnerState::Booting)
    };
    // GitHub has not been looked at since: it may be online.
    let unseen = RunnerFacts {
        age: HOUR,
        ..runner(1, RunnerState::Booting)
    };
    assert_eq!(decide(&pool, &[unseen]), []);
    let actions = decide(&pool, std::slice::from_ref(&late));
    assert_eq!(
        actions,
        [
            Action::Remove(late.name.clone(), Why::Late, Order::RegistrationFirst),
            Action::Launch(1)
        ]
    );
    for phase in [Overdue::Boot, Overdue::Install] {
        let stuck = RunnerFacts {
            overdue: Some(phase),
            ..runner(1, RunnerState::Booting)
        };
        let goes = Action::Remove(
            stuck.name.clone(),
            Why::Overdue(phase),
            Order::RegistrationFirst,
        );
        assert_eq!(
            decide(&pool, std::slice::from_ref(&stuck)),
            [goes, Action::Launch(1)]
        );
        let online = RunnerFacts {
            registered: Registered::Online,
            ..stuck
        };
        let advance = Action::Advance(online.name.clone(), RunnerState::Idle);
        assert_eq!(decide(&pool, &[online]), [advance]);
    }
    // One that runs a job is not late, whatever GitHub's list says.
    let busy = Instance::Present {
        health: HealthState::Healthy,
        busy: Some(true),
    };
    assert_eq!(
        decide(
            &pool,
            &[RunnerFacts {
                instance: busy,
                ..late
            }]
        ),
        []
    );
}

#[test]
fn github_moves_a_runner_on() {
    for (state, registered, to) in [
        (RunnerState::Booting, Registered::Online, RunnerState::Idle),
        (RunnerState::Booting, Registered::Busy, RunnerState::Busy),
        (RunnerState::Idle, Registered::Busy, RunnerState::Busy),
    ] {
        let r = RunnerFacts {
            registered,
            ..runner(1, state)
        };
        let name = r.name.clone();
        assert_eq!(decide(&pool(), &[r]), [Action::Advance(name, to)]);
    }
}

#[test]
fn unknown_health_and_unseen_lists_remove_nothing() {
    let unknown = Instance::Present {
        health: HealthState::Unknown,
        busy: None,
    };
    for state in [RunnerState::Booting, RunnerState::Idle, RunnerState::Busy] {
        for instance in [unknown, Instance::Unseen] {
            let r = RunnerFacts {
                instance,
                ..runner(1, state)
            };
            assert_eq!(decide(&pool(), &[r]), [], "{state:?} {instance:?}");
        }
    }
}

#[test]
fn what_ended_is_removed_instance_first() {
    let failed = Instance::Present {
        health: HealthState::Unhealthy,
        busy: None,
    };
    for state in [RunnerState::Booting, RunnerState::Idle, RunnerState::Busy] {
        for instance in [failed, Instance::Absent] {
            let r = RunnerFacts {
                instance,
                ..runner(1, state)
            };
            let name = r.name.clone();
            assert_eq!(
                decide(&pool(), &[r]),
                [Action::Remove(name, Why::Ended, Order::InstanceFirst)]
            );
        }
    }
}

#[test]
fn excess_goes_oldest_first_and_only_when_idle_for_long() {
    let pool = PoolFacts {
        min_idle: 1,
        ..pool()
    };
    let idle = |id, age| RunnerFacts {
        in_state: 61 * SECOND,
        age,
        registered: Registered::Online,
        ..runner(id, RunnerState::Idle)
    };
    let runners = [
        idle(1, 2 * SECOND),
        idle(2, HOUR),
        runner(3, RunnerState::Busy),
    ];
    assert_eq!(
        decide(&pool, &runners),
        [Action::Remove(
            runners[1].name.clone(),
            Why::Excess,
            Order::RegistrationFirst
        )]
    );
    let fresh = RunnerFacts {
        in_state: SECOND,
        ..idle(2, HOUR)
    };
    assert_eq!(decide(&pool, &[idle(1, HOUR), fresh]).len(), 1);
}

#[test]
fn outdated_and_aged_idle_runners_are_replaced_a_few_at_a_time() {
    let pool = PoolFacts {
        min_idle: 3,
        max_idle_age: Some(2 * HOUR),
        replacements: 2,
        ..pool()
    };
    let idle = |id, hours: u32, outdated| RunnerFacts {
        age: HOUR * hours,
        outdated,
        registered: Registered::Online,
        ..runner(id, RunnerState::Idle)
    };
    let runners = [idle(1, 1, true), idle(2, 3, false), idle(3, 1, false)];
    let leave =
        |id: usize, why| Action::Remove(runners[id].name.clone(), why, Order::RegistrationFirst);
    assert_eq!(
        decide(&pool, &runners),
        [
            leave(0, Why::Outdated),
            leave(1, Why::Aged),
            Action::Launch(2)
        ]
    );
    let one = PoolFacts {
        replacements: 1,
        ..pool
    };
    assert_eq!(
        decide(&one, &runners),
        [leave(0, Why::Outdated), Action::Launch(1)]
    );
    // Of too many the outdated go, whatever their age.
    let fewer = PoolFacts {
        min_idle: 2,
        idle_timeout: Duration::ZERO,
        replacements: 0,
        ..one
    };
    assert_eq!(decide(&fewer, &runners), [leave(0, Why::Excess)]);
}

#[test]
fn a_runner_missing_on_github_is_lost_only_after_a_while_and_without_a_job() {
    let missing = |gone, busy| RunnerFacts {
        registered: Registered::Absent(gone),
        instance: Instance::Present {
            health: HealthState::Healthy,
            busy,
        },
        ..runner(1, RunnerState::Busy)
    };
    assert_eq!(decide(&pool(), &[missing(SECOND, Some(false))]), []);
    assert_eq!(decide(&pool(), &[missing(HOUR, Some(true))]), []);
    assert_eq!(decide(&pool(), &[missing(HOUR, Some(false))]).len(), 1);
    // It is no capacity from the first moment on.
    let pool = PoolFacts {
        demand: 1,
        ..pool()
    };
    let idle = RunnerFacts {
        state: RunnerState::Idle,
        ..missing(SECOND, None)
    };
    assert_eq!(decide(&pool, &[idle]), [Action::Launch(1)]);
}

#[test]
fn what_a_list_lacks_is_asked_for_and_not_removed() {
    let states = [
        RunnerState::Requested,
        RunnerState::Launching,
        RunnerState::Booting,
        RunnerState::Idle,
        RunnerState::Busy,
    ];
    for state in states {
        // It waits for longer than an idle runner may.
        let unlisted = RunnerFacts {
            in_state: HOUR,
            instance: Instance::Unlisted,
            ..runner(1, state)
        };
        let held = RunnerFacts {
            held: true,
            ..unlisted.clone()
        };
        let ask = Action::Ask(unlisted.name.clone());
        assert_eq!(decide(&pool(), &[unlisted]), [ask]);
        assert_eq!(decide(&pool(), &[held]), []);
    }
}

#[test]
fn a_cut_off_launch_is_adopted_or_undone() {
    let adopted = runner(1, RunnerState::Launching);
    let name = adopted.name.clone();
    assert_eq!(
        decide(&pool(), &[adopted]),
        [Action::Advance(name.clone(), RunnerState::Booting)]
    );
    for state in [RunnerState::Requested, RunnerState::Launching] {
        let absent = RunnerFacts {
            instance: Instance::Absent,
            ..runner(1, state)
        };
        assert_eq!(
            decide(&pool(), &[absent]),
            [Action::Remove(
                name.clone(),
                Why::Unfinished,
                Order::InstanceFirst
            )]
        );
        let unseen = RunnerFacts {
            instance: Instance::Unseen,
            ..runner(1, state)
        };
        assert_eq!(decide(&pool(), &[unseen]), []);
    }
}

#[test]
fn what_is_held_is_left_alone_and_keeps_its_place() {
    let pool = PoolFacts {
        demand: 5,
        max: 1,
        ..pool()
    };
    let held = RunnerFacts {
        held: true,
        ..runner(1, RunnerState::Deleting)
    };
    assert_eq!(decide(&pool, &[held]), []);
}

#[test]
fn an_idle_runner_beside_a_job_that_waits_for_long_is_not_counted_on() {
    let idle = |id, seconds: u32| RunnerFacts {
        registered: Registered::Online,
        in_state: SECOND * seconds,
        idle_when_seen: SECOND * seconds,
        ..runner(id, RunnerState::Idle)
    };
    let pool = PoolFacts {
        demand: 1,
        stalled: 1,
        idle_timeout: HOUR,
        ..pool()
    };
    let young = [idle(1, 110), idle(2, 20)];
    assert_eq!(decide(&pool, &young), [], "neither has been idle for long");
    // At most one for each job, and the one that has been idle longest.
    let old = [idle(1, 130), idle(2, 140)];
    let suspect = Action::Suspect(old[1].name.clone());
    assert_eq!(decide(&pool, &old), [suspect], "the other is still free");
    let alone = [idle(1, 130)];
    let suspect = Action::Suspect(alone[0].name.clone());
    assert_eq!(decide(&pool, &alone), [suspect, Action::Launch(1)]);
    let waits = PoolFacts { stalled: 0, ..pool };
    assert_eq!(decide(&waits, &alone), [], "no job waits for long");
}

#[test]
fn a_suspect_goes_when_its_successor_is_there_or_needs_its_place() {
    let suspect = RunnerFacts {
        registered: Registered::Online,
        in_state: 200 * SECOND,
        suspected: Some(60 * SECOND),
        ..runner(1, RunnerState::Idle)
    };
    let gone = Action::Remove(suspect.name.clone(), Why::Suspect, Order::RegistrationFirst);
    let pool = PoolFacts {
        demand: 1,
        stalled: 1,
        ..pool()
    };
    let boots = [suspect.clone(), runner(2, RunnerState::Booting)];
    assert_eq!(decide(&pool, &boots), []);
    let full = PoolFacts {
        max: 2,
        ..pool.clone()
    };
    assert_eq!(decide(&full, &boots), std::slice::from_ref(&gone));
    let online = [suspect.clone(), runner(2, RunnerState::Busy)];
    assert!(decide(&pool, &online).contains(&gone));
    let before = RunnerFacts {
        in_state: HOUR,
        ..runner(2, RunnerState::Busy)
    };
    let others = [suspect.clone(), before];
    assert!(
        !decide(&pool, &others).contains(&gone),
        "it was there before"
    );
    let late = RunnerFacts {
        suspected: Some(301 * SECOND),
        ..suspect.clone()
    };
    assert!(decide(&pool, &[late]).contains(&gone), "no successor comes");
    let busy = RunnerFacts {
        registered: Registered::Busy,
        ..suspect
    };
    let moves = Action::Advance(busy.name.clone(), RunnerState::Busy);
    assert_eq!(
        decide(&full, &[busy, runner(2, RunnerState::Booting)]),
        [moves,]
    );
}
