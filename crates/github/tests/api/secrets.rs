//! No secret shows anywhere.

use std::io;
use std::sync::{Arc, Mutex};

use runner_manager_core::{Labels, Secret};
use runner_manager_github::{Auth, GitHub, GitHubConfig, JitRequest};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::fake::{Fake, TOKEN, error_reply, json_reply, org, rsa, runner};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "current_thread")]
async fn neither_logs_nor_errors_nor_debug_show_a_secret() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(log.clone())
        .finish();
    let fake = Fake::start(|seen, before| {
        let line = seen.line.as_str();
        if line.ends_with("generate-jitconfig") && before == 0 {
            let jit =
                json!({"runner": runner(9, "offline", false), "encoded_jit_config": "JITSECRET"});
            return json_reply(201, &jit);
        }
        if line.ends_with("registration-token") {
            return json_reply(
                201,
                &json!({"token": "REGSECRET", "expires_at": "2030-01-22T12:13:35Z"}),
            );
        }
        error_reply(403, &format!("no, {TOKEN}"))
    })
    .await;
    // For all tests of this binary: they run beside this one, and a log line that one of them
    // meets first without a subscriber would stay off. What they log is held to the same.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let github = fake.client();
    let request = JitRequest {
        name: "app-1".into(),
        group: None,
        labels: Labels::parse(["big"]).unwrap(),
    };
    let made = github.jit_config(&org(), &request).await.unwrap();
    let token = github.registration_token(&org()).await.unwrap();
    let error = github.jit_config(&org(), &request).await.unwrap_err();
    let (key, _) = rsa();
    let auth = Auth::App {
        app_id: "1".into(),
        installation_id: None,
        private_key: Secret::new(key.clone()),
    };
    let config = GitHubConfig::new(fake.url.clone(), auth);
    let shown = format!(
        "{made:?} {token:?} {error} {error:?} {github:?} {config:?} {:?}",
        GitHub::new(config.clone()).unwrap()
    );
    let logged = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(
        logged.contains("generate-jitconfig") && logged.contains("403"),
        "{logged}"
    );
    let inside = key.lines().nth(3).unwrap();
    for secret in [TOKEN, "JITSECRET", "REGSECRET", inside] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
        assert!(!logged.contains(secret), "{secret} in {logged}");
    }
}
