//! The stream, against a server on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::{StreamExt, stream};
use tokio::net::TcpListener;

use super::*;

/// A planner whose first answer is an error, whose second breaks off, and whose third goes on.
async fn planner(calls: Arc<AtomicUsize>) -> PlannerConfig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let routes = Router::new()
        .route("/base/api/v1/flavors/large/pressure", get(answer))
        .with_state(calls);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let token = Secret::new("hunter2");
    PlannerConfig {
        retry: Duration::from_millis(20),
        ..PlannerConfig::new(url.parse().unwrap(), "large", token)
    }
}

async fn answer(State(calls): State<Arc<AtomicUsize>>, uri: Uri, headers: HeaderMap) -> Response {
    let token = headers
        .get("authorization")
        .map(reqwest::header::HeaderValue::as_bytes);
    if uri.query() != Some("stream=true") || token != Some(b"Bearer hunter2".as_slice()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let lines = |lines: &'static [&'static str]| {
        let chunks = lines.iter().map(|line| Ok(Bytes::from(*line)));
        stream::iter(chunks.collect::<Vec<Result<Bytes, std::io::Error>>>())
    };
    match calls.fetch_add(1, Ordering::Relaxed) {
        0 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        // A line may come in pieces.
        1 => Body::from_stream(lines(&["hello\n{\"lar", "ge\": 3}\n"])).into_response(),
        _ => {
            Body::from_stream(lines(&["{\"large\": 5}\n"]).chain(stream::pending())).into_response()
        }
    }
}

#[tokio::test]
async fn the_last_word_stands_while_the_planner_is_away() {
    let calls = Arc::default();
    let config = planner(Arc::clone(&calls)).await;
    let feed = Arc::new(watch::Sender::new(Feed::default()));
    let mut told = feed.subscribe();
    let task = tokio::spawn(async move {
        follow("pool".into(), config, &Chance::new(Some(1)), feed).await;
    });
    let mut seen = Vec::new();
    while seen
        .last()
        .is_none_or(|feed: &Feed| feed.demand != Demand::Runners(5))
    {
        let changed = tokio::time::timeout(Duration::from_secs(20), told.changed()).await;
        changed.expect("in time").unwrap();
        seen.push(told.borrow_and_update().clone());
    }
    task.abort();
    let first = &seen[0];
    assert_eq!(first.demand, Demand::Unknown);
    assert!(first.error.as_ref().unwrap().contains("503"), "{first:?}");
    // What was told is not taken back when the stream breaks off.
    let demands: Vec<Demand> = seen.iter().map(|feed| feed.demand).collect();
    assert!(demands.contains(&Demand::Runners(3)), "{seen:?}");
    assert!(demands.is_sorted_by_key(|demand| match demand {
        Demand::Runners(all) => *all,
        _ => 0,
    }));
    assert!(calls.load(Ordering::Relaxed) == 3, "{calls:?}");
    assert_eq!(seen.last().unwrap().error, None);
}

#[test]
fn other_lines_are_skipped() {
    for (line, pressure) in [
        (r#"{"large": 7}"#, Some(7)),
        (r#"{"small": 1, "large": 0}"#, Some(0)),
        (r#"{"small": 1}"#, None),
        (r#"{"large": -1}"#, None),
        (r#"{"large": "7"}"#, None),
        ("7", None),
        ("", None),
        ("{", None),
    ] {
        assert_eq!(parse(line.as_bytes(), "large"), pressure, "{line}");
    }
}

#[test]
fn pauses_grow_to_a_minute() {
    let seconds =
        [1, 2, 3, 4, 5, 99].map(|failures| pause(PlannerConfig::RETRY, failures).as_secs());
    assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
}

#[test]
fn a_flavor_stays_in_its_place_of_the_path() {
    let url = "http://127.0.0.1:9/base/".parse().unwrap();
    let config = PlannerConfig::new(url, "a/../b", Secret::new("hunter2"));
    assert_eq!(
        config.stream().unwrap().as_str(),
        "http://127.0.0.1:9/base/api/v1/flavors/a%2F..%2Fb/pressure?stream=true"
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}
