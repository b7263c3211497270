//! Many runners at rest: what it costs to look at them, and to decide that nothing is to be done.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use runner_manager_core::{InstanceId, NamePrefix, RunnerName, Secret, SystemClock};
use runner_manager_fleet::{Fleet, FleetConfig};
use runner_manager_github::{
    Auth, GitHub, GitHubConfig, Request, Response, Transport, TransportError,
};
use runner_manager_store::{NewRunner, RunnerState, Store};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::recorder::Recorder;
use crate::{HOUR, LABEL, PATIENCE, pool};

const RUNNERS: usize = 10_000;
/// Every tenth waits, the others have jobs.
const IDLE: usize = RUNNERS / 10;
const PER_PAGE: usize = 100;
const DECISIONS: u32 = 100;
const LOOKS: usize = 5;

/// A GitHub that lists these runners and no jobs, from pages that are made once: what it costs
/// is the client's side.
struct Lists {
    pages: Vec<Vec<u8>>,
    looks: watch::Sender<usize>,
}

impl Lists {
    fn new(names: &[RunnerName]) -> Self {
        let show = |(index, name): (usize, &RunnerName)| {
            json!({
                "id": index + 1, "name": name.to_string(), "os": "linux", "status": "online",
                "busy": is_busy(index), "labels": [{ "id": 1, "name": LABEL, "type": "custom" }],
            })
        };
        let all: Vec<Value> = names.iter().enumerate().map(show).collect();
        let page = |runners: &[Value]| {
            let list = json!({ "total_count": RUNNERS, "runners": runners });
            list.to_string().into_bytes()
        };
        Self {
            pages: all.chunks(PER_PAGE).map(page).collect(),
            looks: watch::Sender::default(),
        }
    }

    fn answer(&self, request: &Request) -> Vec<u8> {
        let path = request.url.path();
        if path.ends_with("/remove-token") {
            let ends = Timestamp::now() + Duration::from_secs(3_600);
            return json!({ "token": "AAAA", "expires_at": ends })
                .to_string()
                .into_bytes();
        }
        if !path.ends_with("/runners") {
            return json!({ "total_count": 0, "workflow_runs": [] })
                .to_string()
                .into_bytes();
        }
        let mut query = request.url.query_pairs();
        let page = query.find(|(key, _)| key == "page");
        let page = page.map_or(1, |(_, value)| value.parse::<usize>().unwrap());
        if page == 1 {
            self.looks.send_modify(|looks| *looks += 1);
        }
        self.pages[page - 1].clone()
    }
}

impl Transport for Lists {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        let json = HeaderValue::from_static("application/json");
        let response = Response {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
            body: self.answer(&request),
        };
        futures::future::ready(Ok(response)).boxed()
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

fn is_busy(index: usize) -> bool {
    index >= IDLE
}

/// The database remembers the runners.
async fn remember(store: &Store, names: &[RunnerName]) {
    for (index, name) in names.iter().enumerate() {
        let now = Timestamp::now();
        let runner = NewRunner {
            pool: LABEL.into(),
            name: name.clone(),
            revision: String::new(),
            now,
        };
        store.insert_runner(&runner).await.unwrap();
        let id = Some(index as u64 + 1);
        store.launched(name, id, now).await.unwrap();
        let way = [RunnerState::Idle, RunnerState::Busy];
        for state in &way[..if is_busy(index) { 2 } else { 1 }] {
            store.advance(name, *state, now, None).await.unwrap();
        }
    }
}

async fn fleet(store: Store, lists: Arc<Lists>, backend: Arc<Recorder>, poll: Duration) -> Fleet {
    let url = "http://127.0.0.1:9".parse().unwrap();
    let config = GitHubConfig::new(url, Auth::Token(Secret::new("simulated")));
    let github = GitHub::over(lists, config).unwrap();
    let mut pool = pool(backend, RUNNERS);
    pool.min_idle = IDLE;
    let rhythm = FleetConfig {
        poll_interval: poll,
        cleanup_interval: HOUR,
        ..FleetConfig::default()
    };
    let clock = Arc::new(SystemClock);
    Fleet::start(rhythm, vec![pool], store, github, clock)
        .await
        .unwrap()
}

/// Waits until GitHub was looked at so often.
async fn looked(lists: &Lists, times: usize) {
    let mut looks = lists.looks.subscribe();
    let enough = tokio::time::timeout(PATIENCE, looks.wait_for(|looks| *looks >= times)).await;
    enough.expect("GitHub is not looked at").unwrap();
}

/// The CPU time that this thread has used.
fn cpu_of_thread() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = text.split_whitespace().next().unwrap();
    Duration::from_nanos(nanoseconds.parse().unwrap())
}

/// Everything but the database runs on this thread, whose CPU time is read.
pub(crate) async fn run() {
    let prefix = NamePrefix::new(LABEL).unwrap();
    let fresh = |_| prefix.runner_name(&InstanceId::random());
    let names: Vec<RunnerName> = (0..RUNNERS).map(fresh).collect();
    let backend = Recorder::new(prefix.clone());
    for (index, name) in names.iter().enumerate() {
        backend.add(name, is_busy(index));
    }
    let store = Store::in_memory(Arc::new(|_| Box::pin(async { Ok(()) }))).unwrap();
    remember(&store, &names).await;

    let lists = Arc::new(Lists::new(&names));
    let still = fleet(store.clone(), lists.clone(), backend.clone(), HOUR).await;
    looked(&lists, 1).await;
    for _ in 0..10 {
        backend.decide().await;
    }
    let before = cpu_of_thread();
    for _ in 0..DECISIONS {
        backend.decide().await;
    }
    let used = cpu_of_thread() - before;
    println!(
        "reconcile of {RUNNERS} runners: {:.1} ms of CPU a decision, of {DECISIONS}",
        used.as_secs_f64() * 1_000.0 / f64::from(DECISIONS)
    );
    check(&still).await;
    drop(still);

    let (before, seen) = (cpu_of_thread(), *lists.looks.borrow());
    let poll = Duration::from_secs(1);
    let looking = fleet(store, lists.clone(), backend, poll).await;
    looked(&lists, seen + LOOKS).await;
    let used = cpu_of_thread() - before;
    println!(
        "look at {RUNNERS} runners on GitHub and at the backend, with its decisions: {:.0} ms of CPU, of {LOOKS}",
        used.as_secs_f64() * 1_000.0 / f64::from(u32::try_from(LOOKS).unwrap())
    );
    check(&looking).await;
}

/// Nothing was to be done.
async fn check(fleet: &Fleet) {
    let pools = fleet.snapshot().await;
    let runners = &pools[0].runners;
    let as_they_were =
        runners.get("idle") == Some(&IDLE) && runners.get("busy") == Some(&(RUNNERS - IDLE));
    assert!(as_they_were && pools[0].launched == 0, "{pools:?}");
}
