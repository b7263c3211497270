//! The same fleet, asked how it is, and flushed.

use reqwest::{Client, StatusCode};
use runner_manager_server::{Flushing, StatusServer};
use runner_manager_store::{Live, RunnerFilter};

use crate::place::{CALL, Place, local};

struct Asked {
    server: StatusServer,
    client: Client,
}

impl Asked {
    async fn start(place: &Place, flushing: Flushing) -> Self {
        let (fleet, store) = (place.fleet.clone(), place.store.clone());
        let listen = "127.0.0.1:0".parse().unwrap();
        let server = StatusServer::start(listen, flushing, fleet, store).await;
        Self {
            server: server.unwrap(),
            client: Client::builder().no_proxy().timeout(CALL).build().unwrap(),
        }
    }

    fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address())
    }

    async fn health(&self) -> StatusCode {
        let answer = self.client.get(self.at("/health")).send().await;
        answer.unwrap().status()
    }

    async fn flush(&self, query: &str, origin: Option<&str>) -> StatusCode {
        let mut call = self.client.post(self.at("/runner/flush") + query);
        if let Some(origin) = origin {
            call = call.header("origin", origin);
        }
        call.send().await.unwrap().status()
    }
}

/// Whether the first runner lives still.
async fn lives(place: &Place) -> bool {
    let filter = RunnerFilter {
        pool: None,
        live_only: Live::Yes,
    };
    let live = place.store.runners(filter).await.unwrap();
    live.iter().any(|row| row.name == place.runner)
}

#[tokio::test]
async fn a_flush_is_done_for_whom_it_is_allowed() {
    let place = Place::new("flushed", &[local(1)], &[]).await;
    let refusing = Asked::start(&place, Flushing::Refused).await;
    let all = "?flush-busy=true";
    assert_eq!(refusing.flush(all, None).await, StatusCode::FORBIDDEN);
    let asked = Asked::start(&place, Flushing::Allowed).await;
    let page = Some("https://page.example");
    assert_eq!(asked.flush(all, page).await, StatusCode::FORBIDDEN);
    let wrong = asked.flush("?flush_busy=true", None).await;
    assert_eq!(wrong, StatusCode::BAD_REQUEST);
    // One that boots is not idle. Clients write the word in their own way.
    for idle in [
        "",
        "?flush-busy=False",
        "?flush-busy=false",
        "?flush-busy=1",
    ] {
        let done = asked.flush(idle, None).await;
        assert_eq!(done, StatusCode::NO_CONTENT, "{idle}");
        assert!(lives(&place).await, "{idle}");
    }
    let done = asked.flush("?flush-busy=True", None).await;
    assert_eq!(done, StatusCode::NO_CONTENT);
    assert!(!lives(&place).await);
}

#[tokio::test]
async fn a_manager_that_stops_is_not_well_and_flushes_nothing() {
    let place = Place::new("stops", &[local(1)], &[]).await;
    let asked = Asked::start(&place, Flushing::Allowed).await;
    assert_eq!(asked.health().await, StatusCode::NO_CONTENT);
    place.fleet.drain().await;
    assert_eq!(asked.health().await, StatusCode::SERVICE_UNAVAILABLE);
    let refused = asked.flush("?flush-busy=true", None).await;
    assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    assert!(lives(&place).await);
}
