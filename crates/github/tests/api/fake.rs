//! A small scripted server.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use runner_manager_core::{GitHubPath, Secret};
use runner_manager_github::{Auth, GitHub, GitHubConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

pub(crate) const TOKEN: &str = "ghp_thisIsVerySecret";

/// A request that came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `METHOD /path?query`, without `/api/v3`.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// What the server answers.
pub(crate) enum Reply {
    Full(u16, Vec<(&'static str, String)>, String),
    Never,
}

pub(crate) fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::Full(
        status,
        vec![("content-type", "application/json; charset=utf-8".into())],
        body.to_string(),
    )
}

pub(crate) fn error_reply(status: u16, message: &str) -> Reply {
    json_reply(
        status,
        &json!({"message": message, "documentation_url": "https://docs.github.com/rest"}),
    )
}

pub(crate) fn html_reply(status: u16, body: &str) -> Reply {
    Reply::Full(
        status,
        vec![("content-type", "text/html".into())],
        body.into(),
    )
}

impl Reply {
    pub(crate) fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        if let Self::Full(_, headers, _) = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }
}

/// A running server; it ends when dropped.
pub(crate) struct Fake {
    pub(crate) url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// Starts a server. `script` gets the request and how many like it came before.
    pub(crate) async fn start(
        script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (log, script) = (Arc::clone(&seen), Arc::new(script));
        let app = axum::Router::new().fallback(move |request: Request| {
            let (log, script) = (Arc::clone(&log), Arc::clone(&script));
            async move { answer(request, &log, script.as_ref()).await }
        });
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self {
            url: Url::parse(&url).unwrap(),
            seen,
            task,
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }

    pub(crate) fn config(&self) -> GitHubConfig {
        GitHubConfig::new(self.url.clone(), Auth::Token(Secret::new(TOKEN)))
    }

    pub(crate) fn client(&self) -> GitHub {
        GitHub::new(self.config()).unwrap()
    }

    /// A client that gives up soon.
    pub(crate) fn hasty(&self) -> GitHub {
        let mut config = self.config();
        config.request_timeout = Duration::from_millis(300);
        GitHub::new(config).unwrap()
    }
}

async fn answer(
    request: Request,
    log: &Mutex<Vec<Seen>>,
    script: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let path = path.strip_prefix("/api/v3").unwrap_or(path);
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let seen = Seen {
        line: format!("{} {path}", parts.method),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let before = {
        let mut log = log.lock().unwrap();
        log.push(seen.clone());
        log.iter().filter(|other| other.line == seen.line).count() - 1
    };
    match script(&seen, before) {
        Reply::Never => std::future::pending().await,
        Reply::Full(status, headers, body) => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
    }
}

pub(crate) fn org() -> GitHubPath {
    GitHubPath::parse("octo-org", None).unwrap()
}

/// A runner in GitHub's shape.
pub(crate) fn runner(id: u64, status: &str, busy: bool) -> Value {
    json!({
        "id": id, "runner_group_id": 1, "name": format!("app-{id:012x}"), "os": "linux",
        "status": status, "busy": busy, "ephemeral": true, "version": "2.330.0",
        "labels": [
            {"id": 5, "name": "self-hosted", "type": "read-only"},
            {"id": 7, "name": "big", "type": "custom"},
        ],
    })
}

/// A page of `total` runners, in GitHub's shape.
pub(crate) fn page(total: u64, ids: impl IntoIterator<Item = u64>) -> Value {
    let runners: Vec<Value> = ids
        .into_iter()
        .map(|id| runner(id, "online", false))
        .collect();
    json!({"total_count": total, "runners": runners})
}

/// An RSA key in PEM, private and public, made anew.
pub(crate) fn rsa() -> (String, String) {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
        .unwrap();
    (key.serialize_pem(), key.public_key_pem())
}
