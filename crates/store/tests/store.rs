//! The store against real files.

#![expect(clippy::unwrap_used, reason = "a test")]

use jiff::Timestamp;
use runner_manager_core::{ErrorKind, InstanceId, NamePrefix, RunnerName};
use runner_manager_store::{
    JobRow, JobStatus, Live, NewBoot, NewRunner, Recorded, Refusal, RunnerFilter, RunnerState,
    Store,
};

fn name() -> RunnerName {
    NamePrefix::new("app")
        .unwrap()
        .runner_name(&InstanceId::random())
}

async fn insert(store: &Store, name: &RunnerName) -> runner_manager_core::Result<()> {
    let runner = NewRunner {
        pool: "p".into(),
        name: name.clone(),
        revision: "r".into(),
        now: Timestamp::now(),
    };
    store.insert_runner(&runner).await
}

fn all() -> RunnerFilter {
    RunnerFilter {
        pool: Some("p".into()),
        live_only: Live::All,
    }
}

#[tokio::test]
async fn a_life_is_stored_step_by_step_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = name();
    insert(&store, &name).await.unwrap();
    let advance = |state| store.advance(&name, state, Timestamp::now(), Some("why"));
    advance(RunnerState::Launching).await.unwrap();
    let launched = store.launched(&name, Some(7), Timestamp::now());
    launched.await.unwrap();
    advance(RunnerState::Deleting).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).await.unwrap();
    let (row, steps) = store.runner(&name).await.unwrap().unwrap();
    assert_eq!((row.state, row.github_id), (RunnerState::Deleting, Some(7)));
    assert_eq!(steps.len(), 4);
    store
        .advance(&name, RunnerState::Gone, Timestamp::now(), None)
        .await
        .unwrap();
    let live = RunnerFilter {
        pool: None,
        live_only: Live::Yes,
    };
    assert!(store.runners(live).await.unwrap().is_empty());
    assert_eq!(store.runners(all()).await.unwrap().len(), 1);
    assert_eq!(store.prune(Timestamp::now()).await.unwrap(), 1);
    assert!(store.runner(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn wrong_steps_and_names_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = name();
    insert(&store, &name).await.unwrap();
    let twice = insert(&store, &name).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    let skip = store
        .advance(&name, RunnerState::Idle, Timestamp::now(), None)
        .await
        .unwrap_err();
    assert!(
        skip.to_string().contains("requested cannot become idle"),
        "{skip}"
    );
    assert_eq!(store.runner(&name).await.unwrap().unwrap().1.len(), 1);
}

#[tokio::test]
async fn one_manager_at_a_time_and_readers_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Store::open_read_only(dir.path()).await.err().unwrap();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let store = Store::open(dir.path()).await.unwrap();
    let second = Store::open(dir.path()).await.err().unwrap();
    assert!(second.to_string().contains("another manager"), "{second}");
    let reader = Store::open_read_only(dir.path()).await.unwrap();
    insert(&store, &name()).await.unwrap();
    assert_eq!(reader.runners(all()).await.unwrap().len(), 1);
    assert!(insert(&reader, &name()).await.is_err(), "a reader wrote");
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.db");
    std::fs::write(&path, "not a database, but somebody's data".repeat(100)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(dir.path()).await.err().unwrap();
    assert!(error.to_string().contains("state.db"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn news_of_a_job_in_any_order_give_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let now = Timestamp::from_second(1_700_000_000).unwrap();
    let news = |id, status| JobRow {
        id,
        name: "build".into(),
        repository: "o/r".into(),
        labels: vec!["linux".into()],
        pool: Some("p".into()),
        status,
        conclusion: (status == JobStatus::Completed).then(|| "success".into()),
        runner: (status != JobStatus::Queued).then(|| "app-000000000001".into()),
        queued_at: now,
        started_at: (status != JobStatus::Queued).then_some(now),
        completed_at: (status == JobStatus::Completed).then_some(now),
    };
    use JobStatus::{Completed, InProgress, Queued};
    let orders = [
        [Queued, InProgress, Completed],
        [Completed, Queued, InProgress],
        [InProgress, Completed, Queued],
        [Completed, InProgress, Queued],
    ];
    for (id, order) in (1..).zip(orders) {
        for status in order {
            store.record_job(&news(id, status)).await.unwrap();
        }
    }
    let jobs = store.jobs(10).await.unwrap();
    assert_eq!(jobs.len(), orders.len());
    for job in jobs {
        assert_eq!(job, news(job.id, Completed));
    }
    assert!(store.open_jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_delivery_is_taken_once_and_tells_how_far_the_job_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let now = Timestamp::now();
    let news = |status| JobRow {
        id: 7,
        name: "build".into(),
        repository: "octo/hello".into(),
        labels: vec!["linux".into()],
        pool: None,
        status,
        conclusion: None,
        runner: None,
        queued_at: now,
        started_at: None,
        completed_at: None,
    };
    let (queued, completed) = (news(JobStatus::Queued), news(JobStatus::Completed));
    let take = |id: &'static str, job: JobRow| {
        let store = store.clone();
        async move { store.take_delivery(id, now, &job).await.unwrap() }
    };
    assert_eq!(take("b", completed).await, Some(JobStatus::Completed));
    assert_eq!(take("a", queued.clone()).await, Some(JobStatus::Completed));
    assert_eq!(take("a", queued).await, None);
    let later = now
        .checked_add(jiff::SignedDuration::from_hours(1))
        .unwrap();
    assert!(
        store.prune(later).await.unwrap() >= 2,
        "old deliveries are forgotten"
    );
}

#[tokio::test]
async fn a_claim_is_served_once_in_time_and_to_its_own_nonce() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let name = name();
    let now = Timestamp::from_second(1_000).unwrap();
    let boot = || NewBoot {
        name: name.clone(),
        nonce: [1; 32],
        token: [2; 32],
        sealed: b"secrets".to_vec(),
        deadline: Timestamp::from_second(1_600).unwrap(),
    };
    store.insert_boot(boot()).await.unwrap_err();
    insert(&store, &name).await.unwrap();
    let claim = async |nonce, second| {
        let at = Timestamp::from_second(second).unwrap();
        store.claim(&name, [nonce; 32], at).await.unwrap()
    };
    let hear = async |token, rank| store.hear(&name, [token; 32], rank).await.unwrap();
    assert_eq!(claim(1, 1_000).await, Err(Refusal::Unknown));
    store.insert_boot(boot()).await.unwrap();
    assert_eq!(claim(9, 1_000).await, Err(Refusal::Forged));
    assert_eq!(claim(1, 1_601).await, Err(Refusal::Late));
    assert_eq!(hear(2, 1).await, Err(Refusal::Replayed), "before the claim");
    // It outlives the manager.
    drop(store);
    let store = Store::open(dir.path()).await.unwrap();
    let claim = async |nonce, second| {
        let at = Timestamp::from_second(second).unwrap();
        store.claim(&name, [nonce; 32], at).await.unwrap()
    };
    let hear = async |token, rank| store.hear(&name, [token; 32], rank).await.unwrap();
    for (nonce, second, expected) in [
        (9, 1_000, Err(Refusal::Forged)),
        (1, 1_601, Err(Refusal::Late)),
        (1, 1_600, Ok(())),
    ] {
        let at = Timestamp::from_second(second).unwrap();
        let may = store.may_claim(&name, [nonce; 32], at).await.unwrap();
        assert_eq!(may, expected, "asking changes nothing");
    }
    assert_eq!(claim(1, 1_600).await, Ok(b"secrets".to_vec()));
    assert_eq!(claim(1, 1_600).await, Err(Refusal::Replayed));
    assert_eq!(hear(9, 1).await, Err(Refusal::Forged));
    assert_eq!(hear(2, 3).await, Ok("p".to_owned()));
    assert_eq!(hear(2, 3).await, Err(Refusal::Replayed));
    assert_eq!(hear(2, 2).await, Err(Refusal::Replayed), "backwards");
    store.insert_boot(boot()).await.unwrap();
    store
        .advance(&name, RunnerState::Deleting, now, None)
        .await
        .unwrap();
    assert_eq!(claim(1, 1_000).await, Err(Refusal::Deleted));
    assert_eq!(hear(2, 4).await, Err(Refusal::Deleted));
}

#[tokio::test]
async fn a_runner_has_one_event_of_each_kind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let (name, now) = (name(), Timestamp::UNIX_EPOCH);
    let record =
        async |runner, kind, line| store.record_event(runner, kind, now, line).await.unwrap();
    assert_eq!(
        record(Some(&name), "runner_start", "1").await,
        Recorded::New
    );
    assert_eq!(
        record(Some(&name), "runner_start", "2").await,
        Recorded::Before
    );
    assert_eq!(record(None, "reconciliation", "3").await, Recorded::New);
    assert_eq!(record(None, "reconciliation", "4").await, Recorded::New);
    assert_eq!(store.events(2).await.unwrap(), ["3", "4"]);
    assert_eq!(
        store
            .prune(Timestamp::from_second(1).unwrap())
            .await
            .unwrap(),
        3
    );
}

#[tokio::test]
async fn events_are_read_on_from_a_place_and_anew_when_all_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let record = async |line| {
        let recorded = store.record_event(None, "reconciliation", now, line).await;
        assert_eq!(recorded.unwrap(), Recorded::New);
    };
    record("before").await;
    let place = store.events_after(None, 9).await.unwrap();
    assert!(place.lines.is_empty(), "{place:?}");
    for line in ["1", "2", "3"] {
        record(line).await;
    }
    let two = store.events_after(Some(place.place), 2).await.unwrap();
    assert_eq!(two.lines, ["1", "2"]);
    let rest = store.events_after(Some(two.place), 2).await.unwrap();
    assert_eq!(rest.lines, ["3"]);
    let none = store.events_after(Some(rest.place), 2).await.unwrap();
    assert_eq!((none.place, none.lines.len()), (rest.place, 0));
    let all = Timestamp::from_second(1).unwrap();
    assert_eq!(store.prune(all).await.unwrap(), 4);
    record("after").await;
    let anew = store.events_after(Some(rest.place), 2).await.unwrap();
    assert_eq!(anew.lines, ["after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_comes_together_is_done_whole_each_for_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path()).await.expect("a store");
    let add = |number: u32| {
        let store = store.clone();
        tokio::spawn(async move {
            // Every name twice: one of each pair is refused, and takes nothing else with it.
            let runner = NewRunner {
                pool: "p".into(),
                name: format!("app-{:012x}", number / 2).parse().expect("a name"),
                revision: "r".into(),
                now: Timestamp::now(),
            };
            store.insert_runner(&runner).await.is_ok()
        })
    };
    let mut stored = 0;
    for task in (0..2_000).map(add).collect::<Vec<_>>() {
        stored += usize::from(task.await.expect("no panic"));
    }
    let filter = RunnerFilter {
        pool: None,
        live_only: Live::All,
    };
    let rows = store.runners(filter).await.expect("a list");
    assert_eq!((stored, rows.len()), (1_000, 1_000));
}
