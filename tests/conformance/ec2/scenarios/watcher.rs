//! The watcher of spot instances: the program that user-data starts, with a metadata service on
//! loopback and processes that are named like the runner's.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use serde_json::json;

use crate::{pool, run};

/// What the metadata service shows.
type Notice = Arc<Mutex<Option<&'static str>>>;

const END: &str = "/latest/meta-data/spot/instance-action";
const LIKELY: &str = "/latest/meta-data/events/recommendations/rebalance";

async fn answer(
    State(notice): State<Notice>,
    method: Method,
    uri: Uri,
) -> (StatusCode, &'static str) {
    if method == Method::PUT && uri.path() == "/latest/api/token" {
        return (StatusCode::OK, "token");
    }
    match *notice.lock().expect("no test panics with the lock") {
        Some(path) if path == uri.path() => (StatusCode::OK, r#"{"action": "terminate"}"#),
        _ => (StatusCode::NOT_FOUND, ""),
    }
}

/// An instance: the watcher in a namespace of its own, with what it watches over.
struct Instance {
    folder: tempfile::TempDir,
    notice: Notice,
    child: Child,
}

impl Instance {
    /// Starts the watcher with a runner that has a job or none.
    async fn start(script: &str, worker: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let notice = Notice::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&notice));
        tokio::spawn(async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path
        };
        let exchange = folder.path().join("exchange");
        std::fs::create_dir(&exchange).expect("a folder");
        let exchange = exchange.to_str().expect("UTF-8");
        write(
            "watch.py",
            &script.replace("/home/ubuntu/metrics-exchange", exchange),
        );
        let off = write("off", "#!/bin/sh\ntouch \"$(dirname \"$0\")/is-off\"\n");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&off, mode).expect("it may be run");
        for name in ["Runner.Listener", "Runner.Worker"] {
            std::fs::copy("/bin/sleep", folder.path().join(name)).expect("a program");
        }
        // A namespace of its own, so that it finds no runner but this one.
        let script = format!(
            "cd {} || exit 1; ./Runner.Listener 600 & {worker} sleep 0.5; exec python3 watch.py --stay",
            folder.path().display()
        );
        let child = Command::new(crate::site::variable("EC2_PEER_UNSHARE"))
            .args([
                "--pid",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "sh",
                "-c",
                &script,
            ])
            .env("RM_METADATA", format!("http://{address}"))
            .env("RM_POLL", "0.1")
            .env("RM_GRACE", "5")
            .env("RM_LINGER", "0.5")
            .env("RM_OFF", off)
            .spawn()
            .expect("unshare starts");
        Self {
            folder,
            notice,
            child,
        }
    }

    fn show(&self, path: &'static str) {
        *self.notice.lock().expect("no test panics with the lock") = Some(path);
    }

    fn has(&self, file: &str) -> bool {
        self.folder.path().join(file).exists()
    }

    async fn is_off_within(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.has("is-off") && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.has("is-off")
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The watcher as a launch of a spot pool carries it.
async fn script(site: &'static crate::site::Site, folder: &Path) -> String {
    let pool = pool(site, json!({"purchase": "spot"})).await;
    pool.create().await.expect("a launch");
    let instance = site.instances(pool.endpoint()).await.remove(0);
    let arguments = json!({"InstanceId": instance["InstanceId"], "Attribute": "userData"});
    let data = site.ec2("describe_instance_attribute", arguments).await;
    let file = folder.join("user-data");
    std::fs::write(&file, crate::site::text(&data["UserData"]["Value"])).expect("a file");
    // The parts, taken apart by Python's own reader of MIME.
    let program = r#"
import base64, email, gzip, sys
data = base64.b64decode(open(sys.argv[1]).read())
data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
for part in email.message_from_bytes(data).walk():
    if part.get_content_type() == "text/cloud-boothook":
        sys.stdout.write(part.get_payload(decode=True).decode())
"#;
    let output = Command::new(crate::site::variable("EC2_PEER_PYTHON"))
        .args(["-c", program])
        .arg(&file)
        .output()
        .expect("python");
    String::from_utf8(output.stdout).expect("UTF-8")
}

async fn instance(site: &'static crate::site::Site, worker: &str) -> Instance {
    let folder = tempfile::tempdir().expect("a folder");
    let script = script(site, folder.path()).await;
    assert!(
        script.starts_with("#!/usr/bin/python3"),
        "no watcher in user-data: {script}"
    );
    let instance = Instance::start(&script, worker).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!instance.has("is-off"), "it goes off without a notice");
    instance
}

const JOB: &str = "./Runner.Worker 600 &";

#[test]
fn an_idle_runner_ends_when_the_end_is_likely() {
    run(async |site| {
        let idle = instance(site, "").await;
        idle.show(LIKELY);
        assert!(idle.is_off_within(Duration::from_secs(20)).await);
        assert!(
            !idle.has("exchange/post-job-metrics.json"),
            "there was no job"
        );
    });
}

#[test]
fn a_job_goes_on_while_its_end_is_only_likely_and_ends_cleanly_when_it_is_certain() {
    run(async |site| {
        let busy = instance(site, JOB).await;
        busy.show(LIKELY);
        assert!(
            !busy.is_off_within(Duration::from_secs(3)).await,
            "a job was cut off"
        );
        busy.show(END);
        assert!(busy.is_off_within(Duration::from_secs(30)).await);
        let fate = busy.folder.path().join("exchange/post-job-metrics.json");
        let fate = std::fs::read_to_string(fate).expect("the job's fate");
        assert!(fate.contains("\"abnormal\""), "{fate}");
    });
}
