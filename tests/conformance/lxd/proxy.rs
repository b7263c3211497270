//! A proxy between a manager and the server: it counts, and makes answers go wrong.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use runner_manager_conformance::Fault;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};

use crate::faults::{Action, action};
use crate::states;

/// What the proxy of one prefix knows.
#[derive(Default)]
pub(crate) struct Rules {
    pub(crate) faults: Vec<Fault>,
    /// The native state that an instance is shown in.
    pub(crate) forced: HashMap<String, &'static str>,
    /// The list that stale answers repeat.
    pub(crate) stale: Option<Value>,
    pub(crate) requests: usize,
    pub(crate) lists: usize,
    /// The port of this machine's loopback that guests reach.
    pub(crate) reached: Option<u16>,
}

/// A proxy in front of the server's socket.
pub(crate) struct Proxy {
    pub(crate) socket: PathBuf,
    rules: Arc<Mutex<Rules>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) fn start(socket: PathBuf, server: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).expect("a socket of the test's own");
        let rules = Arc::new(Mutex::new(Rules::default()));
        let shared = rules.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, rules) = (server.clone(), shared.clone());
                let service = service_fn(move |request| {
                    let (server, rules) = (server.clone(), rules.clone());
                    async move { Ok::<_, Infallible>(serve(request, &server, &rules).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                tokio::spawn(connection);
            }
        });
        Self {
            socket,
            rules,
            task,
        }
    }

    pub(crate) fn rules(&self) -> MutexGuard<'_, Rules> {
        lock(&self.rules)
    }
}

fn lock(rules: &Mutex<Rules>) -> MutexGuard<'_, Rules> {
    rules.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    request: Request<hyper::body::Incoming>,
    server: &Path,
    rules: &Arc<Mutex<Rules>>,
) -> Response<Body> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_list = method == Method::GET
        && path == "/1.0/instances"
        && request
            .uri()
            .query()
            .is_some_and(|q| q.contains("recursion=2"));
    let action = {
        let mut rules = lock(rules);
        rules.requests += 1;
        rules.lists += usize::from(is_list);
        action(&mut rules.faults, &method, &path, is_list)
    };
    match action {
        Action::Refuse(status, words) => refusal(status, words),
        Action::Hang => std::future::pending().await,
        Action::Pass => forward(request, server, rules).await,
        Action::ThenRefuse => {
            finish(forward(request, server, rules).await, server).await;
            refusal(500, "the answer was lost on its way")
        }
        Action::ThenHang => {
            forward(request, server, rules).await;
            std::future::pending().await
        }
        Action::Halve => {
            change(forward(request, server, rules).await, |list| {
                if let Some(items) = list.as_array_mut() {
                    items.truncate(items.len() / 2);
                }
            })
            .await
        }
        Action::Stale => {
            let known = lock(rules).stale.clone();
            let fresh = change(forward(request, server, rules).await, |list| match &known {
                Some(known) => *list = known.clone(),
                None => lock(rules).stale = Some(list.clone()),
            });
            fresh.await
        }
    }
}

fn refusal(status: u16, words: &str) -> Response<Body> {
    let body = json!({"type": "error", "error_code": status, "error": words, "metadata": null});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

/// Changes the metadata of an answer.
async fn change(response: Response<Body>, change: impl FnOnce(&mut Value)) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let bytes = body
        .collect()
        .await
        .expect("the server's answer")
        .to_bytes();
    let Ok(mut answer) = serde_json::from_slice::<Value>(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    change(&mut answer["metadata"]);
    parts.headers.remove(CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(answer.to_string()))
}

/// Waits for the end of the operation that an answer names.
async fn finish(response: Response<Body>, server: &Path) {
    let body = response.into_body().collect().await;
    let bytes = body.expect("the server's answer").to_bytes();
    let answer: Value = serde_json::from_slice(&bytes).expect("JSON");
    if let Some(operation) = answer["operation"].as_str().filter(|o| !o.is_empty()) {
        let request = Request::get(format!("{operation}/wait?timeout=60"));
        let request = request.header(HOST, "lxd").body(Full::default());
        let (response, _) = send(request.expect("a request"), server).await;
        // The whole answer, so that the wait is over.
        let _ = response.into_body().collect().await;
    }
}

type Connection = tokio::task::JoinHandle<()>;

async fn send(
    request: Request<Full<Bytes>>,
    server: &Path,
) -> (Response<hyper::body::Incoming>, Connection) {
    let stream = UnixStream::connect(server).await.expect("the server");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .expect("the server speaks HTTP");
    let connection = tokio::spawn(async move {
        // A connection that breaks is an answer that does not come.
        let _ = connection.with_upgrades().await;
    });
    let response = sender.send_request(request).await.expect("an answer");
    (response, connection)
}

async fn forward(
    mut request: Request<hyper::body::Incoming>,
    server: &Path,
    rules: &Arc<Mutex<Rules>>,
) -> Response<Body> {
    let upgrade = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let shows =
        request.method() == Method::GET && request.uri().path().starts_with("/1.0/instances");
    let (mut parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .expect("the manager's request")
        .to_bytes();
    if upgrade.is_none() {
        parts.headers.remove(CONNECTION);
    }
    let (mut response, _) = send(Request::from_parts(parts, Full::new(body)), server).await;
    if let Some(upgrade) = upgrade
        && response.status() == StatusCode::SWITCHING_PROTOCOLS
    {
        let far = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(near), Ok(far)) = tokio::join!(upgrade, far) {
                let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
                // Whichever side ends it, ends it.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
        return response.map(|_| Body::empty());
    }
    let response = response.map(Body::new);
    let forced = lock(rules).forced.clone();
    if !shows || forced.is_empty() {
        return response;
    }
    change(response, |shown| match shown {
        Value::Array(all) => all.iter_mut().for_each(|one| states::rewrite(one, &forced)),
        one => states::rewrite(one, &forced),
    })
    .await
}
