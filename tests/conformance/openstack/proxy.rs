//! A reverse proxy before the endpoints, one for each prefix: it counts, and it breaks things.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use runner_manager_conformance::Fault;
use runner_manager_core::RunnerName;
use serde_json::{Value, json};

/// Where the services are: the first part of a path through the proxy, and the real endpoint.
const SERVICES: [(&str, &str); 5] = [
    ("identity", "http://127.0.0.1:15000"),
    ("compute", "http://127.0.0.1:18774"),
    ("network", "http://127.0.0.1:19696"),
    ("image", "http://127.0.0.1:19292"),
    ("volume", "http://127.0.0.1:18776"),
];

#[derive(Default)]
pub(crate) struct Faults {
    planted: Vec<Fault>,
    /// What lists answered when they were to become stale, by path and query.
    stale: Option<HashMap<String, Value>>,
    /// The states that servers of these names are shown in.
    states: BTreeMap<String, &'static str>,
}

struct Inner {
    address: SocketAddr,
    base: Mutex<String>,
    client: reqwest::Client,
    requests: AtomicUsize,
    lists: AtomicUsize,
    /// How often each kind of request was made.
    calls: Mutex<BTreeMap<String, usize>>,
    faults: Mutex<Faults>,
    /// The last answers of lists, for the day on which they become stale.
    seen: Mutex<HashMap<String, Value>>,
    mended: tokio::sync::Notify,
    forgotten: AtomicBool,
}

/// A running proxy; it ends with its runtime.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Inner>);

impl Proxy {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let proxy = Self(Arc::new(Inner {
            address,
            base: Mutex::new(format!("http://{address}")),
            client: reqwest::Client::builder()
                .no_proxy()
                .build()
                .expect("a client"),
            requests: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            calls: Mutex::default(),
            faults: Mutex::default(),
            seen: Mutex::default(),
            mended: tokio::sync::Notify::new(),
            forgotten: AtomicBool::new(false),
        }));
        let router = Router::new().fallback(serve).with_state(proxy.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        proxy
    }

    /// Where clients find it.
    fn base(&self) -> String {
        let base = self.0.base.lock().unwrap_or_else(PoisonError::into_inner);
        base.clone()
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.address.port()
    }

    /// The next call with a token is refused, as if the token had ended.
    pub(crate) fn forget_token(&self) {
        self.0.forgotten.store(true, Ordering::Release);
    }

    /// A `clouds.yaml` whose cloud `test` leads through this proxy.
    pub(crate) fn clouds(&self) -> Value {
        self.clouds_at(&self.base())
    }

    /// The same where something stands before this proxy.
    pub(crate) fn clouds_at(&self, base: &str) -> Value {
        let mut known = self.0.base.lock().unwrap_or_else(PoisonError::into_inner);
        base.clone_into(&mut known);
        json!({"clouds": {"test": {
            "auth": {
                "auth_url": format!("{base}/identity/v3"),
                "username": "demo", "password": "peer", "project_name": "demo",
                "user_domain_name": "Default", "project_domain_name": "Default",
            },
            "region_name": "RegionOne",
            "compute_endpoint_override": format!("{base}/compute/v2.1"),
            "network_endpoint_override": format!("{base}/network"),
            "image_endpoint_override": format!("{base}/image"),
            "block_storage_endpoint_override": format!("{base}/volume/v3"),
        }}})
    }

    pub(crate) fn requests(&self) -> usize {
        self.0.requests.load(Ordering::Acquire)
    }

    pub(crate) fn lists(&self) -> usize {
        self.0.lists.load(Ordering::Acquire)
    }

    /// The requests by kind: method, service and path, with `{id}` for what names one thing.
    pub(crate) fn calls(&self) -> BTreeMap<String, usize> {
        self.0
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn count(&self, method: &Method, path: &str) {
        let named = |part: &&str| part.len() > 20 || part.parse::<RunnerName>().is_ok();
        let parts: Vec<&str> = path
            .split('/')
            .map(|part| if named(&part) { "{id}" } else { part })
            .collect();
        let mut calls = self.0.calls.lock().unwrap_or_else(PoisonError::into_inner);
        *calls
            .entry(format!("{method} {}", parts.join("/")))
            .or_default() += 1;
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.0.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn plant(&self, fault: Fault) {
        let mut faults = self.faults();
        if fault == Fault::ListStale {
            let seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
            faults.stale = Some(seen.clone());
        }
        faults.planted.push(fault);
    }

    pub(crate) fn force(&self, name: String, status: &'static str) {
        self.faults().states.insert(name, status);
    }

    pub(crate) fn mend(&self) {
        *self.faults() = Faults::default();
        self.0.mended.notify_waiters();
    }

    fn has(&self, fault: Fault) -> bool {
        self.faults().planted.contains(&fault)
    }

    /// Whether a fault was planted; one that serves once is spent.
    fn spend(&self, fault: Fault) -> bool {
        let mut faults = self.faults();
        let at = faults.planted.iter().position(|planted| *planted == fault);
        at.map(|at| faults.planted.remove(at)).is_some()
    }
}

fn answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let builder = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    builder
        .body(Body::from(body.to_string()))
        .expect("a response")
}

fn refusal(status: u16, kind: &str, message: &str) -> Response {
    answer(
        status,
        &json!({ kind: { "code": status, "message": message } }),
    )
}

fn throttled() -> Response {
    let mut response = refusal(429, "overLimit", "This request was rate-limited.");
    response
        .headers_mut()
        .insert("retry-after", "1".parse().expect("a number"));
    response
}

async fn serve(State(proxy): State<Proxy>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let servers = path.ends_with("/servers") && parts.method == Method::POST;
    let one_server = path.contains("/servers/") && parts.method == Method::DELETE;
    // A look for one name is no list, though it has the same path.
    let query = parts.uri.query().unwrap_or_default();
    let named = query.contains("%24") || query.contains('$');
    let list = path.ends_with("/servers/detail") && !named;
    proxy.0.requests.fetch_add(1, Ordering::AcqRel);
    proxy.count(&parts.method, &path);
    if list {
        proxy.0.lists.fetch_add(1, Ordering::AcqRel);
    }
    if !path.starts_with("/identity/") && proxy.0.forgotten.swap(false, Ordering::AcqRel) {
        let words = "The request you have made requires authentication.";
        return refusal(401, "error", words);
    }
    if proxy.has(Fault::Hang) {
        proxy.0.mended.notified().await;
    }
    if proxy.has(Fault::Throttle) {
        return throttled();
    }
    if proxy.has(Fault::Down) {
        return refusal(500, "computeFault", "Unexpected API Error.");
    }
    let refused = |fault: Fault| {
        proxy
            .spend(fault)
            .then(|| refusal(400, "badRequest", "refused for the test"))
    };
    if path.ends_with("/os-keypairs")
        && parts.method == Method::POST
        && let Some(response) = refused(Fault::Launch)
    {
        return response;
    }
    if servers {
        if let Some(response) = refused(Fault::LaunchMidway) {
            return response;
        }
        if proxy.has(Fault::Quota) {
            let words =
                "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances";
            return refusal(403, "forbidden", words);
        }
    }
    if one_server && proxy.spend(Fault::Terminate) {
        return refusal(409, "conflictingRequest", "refused for the test");
    }
    if path.contains("/ports/")
        && parts.method == Method::DELETE
        && proxy.spend(Fault::TerminateMidway)
    {
        return refusal(500, "NeutronError", "refused for the test");
    }
    if list && proxy.has(Fault::List) {
        return refusal(500, "computeFault", "refused for the test");
    }
    let bytes = axum::body::to_bytes(body, 1 << 22)
        .await
        .unwrap_or_default();
    let response = forward(&proxy, &parts, bytes, list).await;
    if servers && proxy.spend(Fault::LaunchHangs) {
        proxy.0.mended.notified().await;
    }
    let ended = one_server && proxy.spend(Fault::TerminateAfterEffect);
    if ended {
        until_gone(&proxy, &parts).await;
    }
    if ended || (servers && proxy.spend(Fault::LaunchAfterEffect)) {
        return refusal(500, "computeFault", "Unexpected API Error.");
    }
    response
}

/// Waits until the server of a request is no more: Nova ends one after its answer.
async fn until_gone(proxy: &Proxy, parts: &axum::http::request::Parts) {
    let mut look = parts.clone();
    look.method = Method::GET;
    for _ in 0..100 {
        let found = forward(proxy, &look, Bytes::new(), false).await;
        if found.status() == StatusCode::NOT_FOUND {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn forward(
    proxy: &Proxy,
    parts: &axum::http::request::Parts,
    body: Bytes,
    list: bool,
) -> Response {
    let whole = parts
        .uri
        .path_and_query()
        .map_or("/", |whole| whole.as_str());
    let (service, rest) = whole[1..].split_once('/').unwrap_or((&whole[1..], ""));
    let Some((_, real)) = SERVICES.iter().find(|(name, _)| *name == service) else {
        return refusal(404, "itemNotFound", "no such service");
    };
    let mut request = proxy
        .0
        .client
        .request(parts.method.clone(), format!("{real}/{rest}"))
        .body(body);
    for (name, value) in &parts.headers {
        if !matches!(name.as_str(), "host" | "content-length" | "connection") {
            request = request.header(name, value);
        }
    }
    let real = match request.timeout(Duration::from_secs(120)).send().await {
        Ok(real) => real,
        Err(error) => return refusal(502, "error", &error.to_string()),
    };
    let (status, headers) = (real.status(), real.headers().clone());
    let bytes = real.bytes().await.unwrap_or_default();
    let mut builder = Response::builder().status(status);
    for name in ["content-type", "x-subject-token", "retry-after"] {
        if let Some(value) = headers.get(name) {
            builder = builder.header(name, value);
        }
    }
    builder
        .body(Body::from(changed(proxy, &bytes, whole, list)))
        .expect("a response")
}

/// The answer as the client is to see it: with the proxy's own addresses, in forced states,
/// truncated or stale.
fn changed(proxy: &Proxy, bytes: &Bytes, whole: &str, list: bool) -> Vec<u8> {
    let Ok(mut text) = String::from_utf8(bytes.to_vec()) else {
        return bytes.to_vec();
    };
    for (name, real) in SERVICES {
        text = text.replace(real, &format!("{}/{name}", proxy.base()));
    }
    let Ok(mut json) = serde_json::from_str::<Value>(&text) else {
        return text.into_bytes();
    };
    let mut faults = proxy.faults();
    if list {
        let mut seen = proxy.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(whole.to_owned(), json.clone());
        if let Some(stale) = &mut faults.stale {
            let nothing = json!({ "servers": [] });
            json = stale.get(whole).cloned().unwrap_or(nothing);
        }
        if faults.planted.contains(&Fault::ListTruncated)
            && let Some(Value::Array(servers)) = json.get_mut("servers")
        {
            servers.truncate(servers.len() / 2);
            json["servers_links"] = Value::Null;
        }
    }
    let force = |server: &mut Value| {
        let name = server
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if let Some(status) = faults.states.get(name) {
            server["status"] = (*status).into();
        }
    };
    if let Some(Value::Array(servers)) = json.get_mut("servers") {
        servers.iter_mut().for_each(force);
    } else if let Some(server) = json.get_mut("server") {
        force(server);
    }
    json.to_string().into_bytes()
}
