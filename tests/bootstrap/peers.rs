//! What stands around the instances: a real proxy, a policy service, a registry mirror, files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as Segments, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use tokio::net::TcpListener;

/// The requests that a service was sent: its path, and what came in `authorization`.
pub(crate) type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// The service's own secret, which buys one-time tokens.
pub(crate) const POLICY_SECRET: &str = "the-secret-of-the-policy-service";

fn bearer(headers: &HeaderMap) -> String {
    let header = headers.get("authorization").and_then(|h| h.to_str().ok());
    header.unwrap_or_default().to_owned()
}

/// The policy service: the first segment of its paths says how it answers.
pub(crate) async fn policy() -> (String, Asked) {
    let asked = Asked::default();
    let sell = |State(asked): State<Asked>,
                Segments(mood): Segments<String>,
                headers: HeaderMap| async move {
        let mut asked = asked.lock().expect("asked");
        if bearer(&headers) != format!("Bearer {POLICY_SECRET}") {
            return (StatusCode::UNAUTHORIZED, String::new());
        }
        asked.push((format!("{mood}/one-time-token"), String::new()));
        (
            StatusCode::OK,
            format!("one-time-token-{mood}-{}\n", asked.len()),
        )
    };
    let check = |State(asked): State<Asked>,
                 Segments((mood, event)): Segments<(String, String)>,
                 headers: HeaderMap| async move {
        let call = (format!("{mood}/{event}"), bearer(&headers));
        asked.lock().expect("asked").push(call);
        match mood.as_str() {
            "yes" => (StatusCode::NO_CONTENT, ""),
            "no" => (StatusCode::FORBIDDEN, "this repository may not"),
            "error" => (StatusCode::INTERNAL_SERVER_ERROR, "out of order"),
            // No answer: the connection breaks, and no page of a backtrace is printed.
            _ => std::panic::resume_unwind(Box::new("no answer")),
        }
    };
    let router = Router::new()
        .route("/{mood}/one-time-token", get(sell))
        .route("/{mood}/{event}/check-run", post(check))
        .with_state(asked.clone());
    (serve("127.0.0.1:0", router).await, asked)
}

/// Files, and a registry mirror.
pub(crate) async fn files(archive: Vec<u8>, registry: Router) -> String {
    let archive = axum::body::Bytes::from(archive);
    let router = registry.route("/runner.tar.gz", get(move || async move { archive }));
    serve("127.0.0.2:0", router).await
}

async fn serve(address: &str, router: Router) -> String {
    let listener = TcpListener::bind(address).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address.to_string()
}

/// Squid, with a user and a password.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) port: u16,
    log: std::path::PathBuf,
}

impl Proxy {
    pub(crate) fn start(folder: &Path, user: &str, password: &str) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        // Squid and its helper are a user of their own.
        let home = folder.join("squid");
        std::fs::create_dir(&home).expect("a folder");
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&home, open).expect("permissions");
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("them");
        let hash = crate::cloud::run("openssl", &["passwd", "-apr1", password]);
        std::fs::write(home.join("users"), format!("{user}:{hash}")).expect("a file");
        let (config, log) = (home.join("squid.conf"), home.join("access.log"));
        let path = home.display();
        let text = format!(
            "http_port 127.0.0.1:{port}
pid_filename none
cache deny all
pinger_enable off
shutdown_lifetime 0 seconds
access_log stdio:{path}/access.log
cache_log {path}/cache.log
coredump_dir {path}
auth_param basic program /usr/lib/squid/basic_ncsa_auth {path}/users
acl users proxy_auth REQUIRED
http_access allow users
http_access deny all
"
        );
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new("squid");
        command
            .arg("-N")
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().expect("squid");
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "the proxy does not listen"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Fails for what has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
