//! Scale sets: the client and the simulator speak to each other.

use std::time::{Duration, Instant};

use runner_manager_core::{ErrorKind, GitHubPath, Label, Labels};
use runner_manager_github::{
    GitHub, ScaleSetJobState, ScaleSetMessage, ScaleSetSession, ScaleSetSpec,
};
use runner_manager_github_sim::{
    Conclusion, FaultAction, FaultRule, JobOffer, JobSpec, JobStatus, ScaleSetConfig, Sim,
    SimConfig,
};

use crate::support::{DEADLINE, REPO, client, folder, is, path, run};

fn spec(label: &str) -> ScaleSetSpec {
    ScaleSetSpec {
        name: "set".into(),
        labels: Labels::new(vec![Label::new(label).unwrap()]).unwrap(),
    }
}

async fn sim_with(scale_sets: ScaleSetConfig) -> Sim {
    let config = SimConfig {
        scale_sets,
        ..SimConfig::default()
    };
    Sim::start(config).await.unwrap()
}

async fn open(sim: &Sim, github: &GitHub, scope: &GitHubPath) -> ScaleSetSession {
    let set = github.scale_set(scope, &spec("big")).await.unwrap();
    assert!(sim.scale_sets().iter().any(|known| known.id == set.id));
    github.open_session(scope, set.id, "me").await.unwrap()
}

fn queue(sim: &Sim, many: usize) -> Vec<u64> {
    let queue = |_| sim.queue_job(JobSpec::new(REPO, &["BIG"])).unwrap();
    (0..many).map(queue).collect()
}

/// The next message that comes.
async fn next(session: &mut ScaleSetSession, last: u64, capacity: usize) -> ScaleSetMessage {
    for _ in 0..10 {
        if let Some(message) = session.next(last, capacity).await.unwrap() {
            return message;
        }
    }
    panic!("no message came");
}

#[tokio::test]
async fn a_set_is_made_once_adopted_and_changed_in_every_scope() {
    let sim = sim_with(ScaleSetConfig::default()).await;
    let github = client(&sim, sim.token());
    for scope in ["acme", "acme/app", "enterprises/acme-inc"] {
        let scope = path(scope);
        let made = github.scale_set(&scope, &spec("big")).await.unwrap();
        assert_eq!(made.labels, ["big"]);
        let adopted = client(&sim, sim.token());
        let adopted = adopted.scale_set(&scope, &spec("BIG")).await.unwrap();
        assert_eq!(adopted, made);
        let changed = github.scale_set(&scope, &spec("other")).await.unwrap();
        assert_eq!((changed.id, &changed.labels[0][..]), (made.id, "other"));
    }
    assert_eq!(sim.scale_sets().len(), 3);
    let grouped = GitHubPath::parse("acme", Some("Builders")).unwrap();
    github.scale_set(&grouped, &spec("big")).await.unwrap();
    let none = GitHubPath::parse("acme", Some("none")).unwrap();
    let error = github.scale_set(&none, &spec("big")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    let id = sim.scale_sets()[0].id;
    github.delete_scale_set(&path("acme"), id).await.unwrap();
    let gone = github.open_session(&path("acme"), id, "me").await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
    let connections = sim.exchanges();
    let connections = connections
        .iter()
        .filter(|e| e.path.ends_with("/runner-registration"));
    assert_eq!(connections.count(), 6, "one a client and scope");
}

#[tokio::test]
async fn many_jobs_come_in_messages_of_fifty_within_the_capacity() {
    let sim = sim_with(ScaleSetConfig::default()).await;
    let (github, scope) = (client(&sim, sim.token()), path("acme"));
    let mut session = open(&sim, &github, &scope).await;
    queue(&sim, 130);
    let first = next(&mut session, 0, 120).await;
    assert_eq!(first.jobs.len(), 50);
    let numbers = first.statistics.unwrap();
    assert_eq!(numbers.total_assigned_jobs, 120, "{numbers:?}");
    assert_eq!(first.jobs[0].state, ScaleSetJobState::Assigned);
    // What is not acknowledged comes again, to the next session too.
    assert_eq!(next(&mut session, 0, 120).await, first);
    session.close().await.unwrap();
    let mut session = open(&sim, &github, &scope).await;
    assert_eq!(session.statistics().total_assigned_jobs, 120);
    assert_eq!(next(&mut session, 0, 120).await.id, first.id);
    session.acknowledge(first.id).await.unwrap();
    session.acknowledge(first.id).await.unwrap();
    let second = next(&mut session, first.id, 120).await;
    let third = next(&mut session, second.id, 120).await;
    assert_eq!((second.jobs.len(), third.jobs.len()), (50, 20));
    assert_eq!(sim.scale_sets()[0].unacknowledged, 2);
    assert_eq!(session.next(third.id, 120).await.unwrap(), None);
    session.close().await.unwrap();
    assert_eq!(sim.scale_sets()[0].owner, None);
}

#[tokio::test]
async fn a_session_that_is_not_closed_keeps_every_other_out_for_a_while() {
    let scale_sets = ScaleSetConfig {
        session_silence: Duration::from_secs(1),
        ..ScaleSetConfig::default()
    };
    let sim = sim_with(scale_sets).await;
    let (github, scope) = (client(&sim, sim.token()), path("acme"));
    let mut old = open(&sim, &github, &scope).await;
    let id = sim.scale_sets()[0].id;
    for owner in ["another", "me"] {
        let refused = github.open_session(&scope, id, owner).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{owner}: {error}");
    }
    // By its id, as after a crash.
    let left = old.id().to_owned();
    github.close_session(&scope, id, &left).await.unwrap();
    github.close_session(&scope, id, &left).await.unwrap();
    let silent = github.open_session(&scope, id, "me").await.unwrap();
    let lost = old.next(0, 1).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::NotFound, "{lost}");
    drop(silent);
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = github.open_session(&scope, id, "another").await {
        assert!(Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn expired_tokens_byte_order_marks_and_lost_answers_cost_nothing() {
    let scale_sets = ScaleSetConfig {
        queue_token_lifetime: Duration::from_millis(200),
        ..ScaleSetConfig::default()
    };
    let sim = sim_with(scale_sets).await;
    let (github, scope) = (client(&sim, sim.token()), path("acme"));
    sim.fault(FaultRule::new("/tenants/", 3, FaultAction::ByteOrderMark));
    sim.fault(FaultRule::new(
        "/runner-registration",
        1,
        FaultAction::status(401),
    ));
    sim.fault(FaultRule::new("/_apis/", 1, FaultAction::status(401)));
    let mut session = open(&sim, &github, &scope).await;
    queue(&sim, 1);
    tokio::time::sleep(Duration::from_millis(300)).await;
    sim.fault(FaultRule::new("/messages", 1, FaultAction::ByteOrderMark));
    let message = next(&mut session, 0, 5).await;
    assert_eq!(message.jobs.len(), 1);
    // The acknowledgement takes effect, and its answer is lost; its token has expired, too.
    tokio::time::sleep(Duration::from_millis(300)).await;
    sim.fault(FaultRule::new("/messages/", 1, FaultAction::DropAfterEffect).method("DELETE"));
    session.acknowledge(message.id).await.unwrap();
    assert_eq!(sim.scale_sets()[0].unacknowledged, 0);
}

#[tokio::test]
async fn offered_jobs_are_acquired() {
    let scale_sets = ScaleSetConfig {
        offer: JobOffer::Available,
        queue_token_lifetime: Duration::from_millis(200),
        ..ScaleSetConfig::default()
    };
    let sim = sim_with(scale_sets).await;
    let (github, scope) = (client(&sim, sim.token()), path("acme"));
    let mut session = open(&sim, &github, &scope).await;
    queue(&sim, 2);
    let offered = next(&mut session, 0, 5).await;
    assert_eq!(offered.jobs[0].state, ScaleSetJobState::Available);
    let numbers = offered.statistics.unwrap();
    assert_eq!(
        (numbers.total_available_jobs, numbers.total_assigned_jobs),
        (2, 0)
    );
    let requests: Vec<u64> = offered.jobs.iter().map(|job| job.request_id).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let got = session.acquire(&[&requests[..], &[7]].concat()).await;
    assert_eq!(got.unwrap(), requests);
    let assigned = next(&mut session, offered.id, 5).await;
    assert_eq!(assigned.statistics.unwrap().total_assigned_jobs, 2);
    assert_eq!(assigned.jobs[0].state, ScaleSetJobState::Assigned);
}

#[tokio::test]
async fn a_job_of_a_set_runs_on_a_runner_of_the_set_alone() {
    let sim = sim_with(ScaleSetConfig::default()).await;
    let (github, scope) = (client(&sim, sim.token()), path("acme"));
    let mut session = open(&sim, &github, &scope).await;
    let job = queue(&sim, 1)[0];
    let assigned = next(&mut session, 0, 5).await;
    session.acknowledge(assigned.id).await.unwrap();
    let made = github.scale_set_jit(&scope, &spec("big"), "app-1").await;
    let made = made.unwrap();
    let again = github.scale_set_jit(&scope, &spec("big"), "app-1").await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let found = github.scale_set_runner(&scope, "APP-1").await.unwrap();
    let found = found.unwrap();
    assert_eq!((found.id, found.scale_set), (made.runner.id, Some(1)));
    let folder = folder();
    let mut runner = run(folder.path(), &made.config).spawn().unwrap();
    let done = sim.wait_for(is(job, JobStatus::Completed), DEADLINE).await;
    let done = done.unwrap();
    assert_eq!(done.jobs[0].conclusion, Some(Conclusion::Success));
    assert_eq!(done.jobs[0].runner_name.as_deref(), Some("app-1"));
    runner.wait().unwrap();
    let mut told = Vec::new();
    let mut last = assigned.id;
    while told.len() < 2 {
        let message = next(&mut session, last, 5).await;
        last = message.id;
        told.extend(message.jobs);
    }
    let states: Vec<ScaleSetJobState> = told.iter().map(|job| job.state).collect();
    assert_eq!(
        states,
        [ScaleSetJobState::Started, ScaleSetJobState::Completed]
    );
    assert_eq!(told[0].runner_name.as_deref(), Some("app-1"));
    assert_eq!(told[1].result.as_deref(), Some("succeeded"));
    // An ephemeral runner goes by itself.
    assert_eq!(
        github.scale_set_runner(&scope, "app-1").await.unwrap(),
        None
    );
    let other = github.scale_set_jit(&scope, &spec("big"), "app-2").await;
    let other = other.unwrap().runner.id;
    github.remove_scale_set_runner(&scope, other).await.unwrap();
}

#[tokio::test]
async fn a_queue_that_answers_with_an_empty_body_has_no_message() {
    let sim = sim_with(ScaleSetConfig::default()).await;
    let github = client(&sim, sim.token());
    let mut session = open(&sim, &github, &path("acme")).await;
    for body in ["", " \n"] {
        let empty = FaultAction::Status {
            status: 200,
            headers: std::collections::BTreeMap::new(),
            body: Some(body.to_owned()),
        };
        sim.fault(FaultRule::new("/messages?", 1, empty));
        let asked = std::time::Instant::now();
        assert!(session.next(0, 5).await.unwrap().is_none());
        let took = asked.elapsed();
        assert!(
            took >= Duration::from_millis(900),
            "asked again after {took:?}"
        );
    }
    let id = queue(&sim, 1)[0];
    let message = next(&mut session, 0, 5).await;
    assert!(
        message.jobs.iter().any(|job| job.job_id == id.to_string()),
        "{message:?}"
    );
}
