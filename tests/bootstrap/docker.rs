//! Docker, for real: with what an instance was given it pulls from the pool's registry mirror.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path as Segments, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::cloud::run;
use crate::expectations::of;
use crate::whole::Outcome;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// What the mirror holds, by digest.
type Held = BTreeMap<String, Vec<u8>>;

fn digest(file: &Path) -> String {
    let sum = run("sha256sum", &[&file.display().to_string()]);
    let sum = sum.split(' ').next().expect("a digest");
    format!("sha256:{sum}")
}

/// Holds a file under its digest, and describes it as a manifest does.
fn hold(held: &mut Held, file: &Path, kind: &str) -> Value {
    let bytes = std::fs::read(file).expect("a file");
    let (digest, size) = (digest(file), bytes.len());
    held.insert(digest.clone(), bytes);
    json!({ "mediaType": kind, "digest": digest, "size": size })
}

/// A registry with the image `library/hello`, as the protocol has it (Docker Registry HTTP API
/// V2, image manifest version 2, schema 2).
pub(crate) fn registry(folder: &Path) -> Router {
    let home = folder.join("registry");
    let content = home.join("content");
    std::fs::create_dir_all(&content).expect("a folder");
    std::fs::write(content.join("hello"), "hello\n").expect("a file");
    let (layer, place) = (home.join("layer"), content.display().to_string());
    run(
        "tar",
        &["-C", &place, "-cf", &layer.display().to_string(), "."],
    );
    let unpacked = digest(&layer);
    run("gzip", &[&layer.display().to_string()]);
    let mut held = Held::new();
    let layer = hold(&mut held, &home.join("layer.gz"), LAYER);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [unpacked] },
    });
    let file = home.join("config.json");
    std::fs::write(&file, config.to_string()).expect("a file");
    let config = hold(&mut held, &file, CONFIG);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
    });
    let file = home.join("manifest.json");
    std::fs::write(&file, manifest.to_string()).expect("a file");
    let digest = hold(&mut held, &file, MANIFEST)["digest"].to_string();
    let digest = digest.trim_matches('"').to_owned();

    let newest = digest.clone();
    let manifest = move |State(held): State<Held>, Segments(wanted): Segments<String>| async move {
        let wanted = if wanted == "latest" { newest } else { wanted };
        answer(&held, &wanted, MANIFEST)
    };
    let blob = |State(held): State<Held>, Segments(wanted): Segments<String>| async move {
        answer(&held, &wanted, "application/octet-stream")
    };
    Router::new()
        .route("/v2/", get(|| async { StatusCode::OK }))
        .route("/v2/library/hello/manifests/{reference}", get(manifest))
        .route("/v2/library/hello/blobs/{digest}", get(blob))
        .with_state(held)
}

fn answer(held: &Held, digest: &str, kind: &'static str) -> Response {
    match held.get(digest) {
        Some(bytes) => {
            let headers = [
                (CONTENT_TYPE.as_str(), kind.to_owned()),
                ("docker-content-digest", digest.to_owned()),
            ];
            (headers, bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A daemon of the test's own, with its data in a folder.
struct Daemon {
    child: Child,
    socket: String,
    log: PathBuf,
}

impl Daemon {
    fn start(home: &Path, config: &Path, environment: &BTreeMap<String, String>) -> Self {
        let path = |name: &str| home.join(name).display().to_string();
        let log = home.join("log");
        let output = std::fs::File::create(&log).expect("a file");
        let socket = format!("unix://{}", path("socket"));
        let mut command = Command::new("dockerd");
        command.args(["--config-file", &config.display().to_string()]);
        command.args(["--data-root", &path("data"), "--exec-root", &path("exec")]);
        command.args(["--pidfile", &path("pid"), "--host", &socket]);
        // It runs no container: it needs no network and no file system of its own.
        command.args(["--bridge=none", "--iptables=false", "--ip6tables=false"]);
        command.arg("--storage-driver=vfs").envs(environment);
        command
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a file"));
        let child = command.stdout(output).spawn().expect("dockerd");
        let daemon = Self { child, socket, log };
        let begin = Instant::now();
        while !daemon.client(&["version"]).0 {
            let log = std::fs::read_to_string(&daemon.log).unwrap_or_default();
            let elapsed = begin.elapsed();
            assert!(elapsed < Duration::from_secs(60), "no dockerd: {log}");
            std::thread::sleep(Duration::from_millis(100));
        }
        daemon
    }

    /// Whether a command of the client succeeds, and what it says.
    fn client(&self, words: &[&str]) -> (bool, String) {
        let mut client = Command::new("docker");
        client.args(["--host", &self.socket]).args(words);
        let output = client.output().expect("the client of Docker");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Asked, it ends its own containerd too.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").arg(&pid).status();
        for _ in 0..200 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The environment that a drop-in of systemd sets.
fn environment(drop_in: &str) -> BTreeMap<String, String> {
    let lines = drop_in.lines();
    let set = lines.filter_map(|line| line.strip_prefix("Environment=\"")?.strip_suffix('"'));
    let plain = |text: &str| {
        let text = text.replace("%%", "%").replace("\\\"", "\"");
        text.replace("\\\\", "\\")
    };
    let pair = |text: &str| {
        let (name, value) = text.split_once('=')?;
        Some((name.to_owned(), plain(value)))
    };
    set.filter_map(pair).collect()
}

pub(crate) fn pulls_through_the_mirror(outcome: &Outcome, folder: &Path) {
    let (_, kept) = of(outcome, "yes");
    let home = folder.join("docker");
    std::fs::create_dir(&home).expect("a folder");
    let config = home.join("daemon.json");
    std::fs::write(&config, &kept.files["etc/docker/daemon.json"]).expect("a file");
    let drop_in = &kept.files["etc/systemd/system/docker.service.d/runner-manager-proxy.conf"];
    let environment = environment(drop_in);
    assert!(environment.contains_key("HTTP_PROXY"), "{drop_in}");
    let daemon = Daemon::start(&home, &config, &environment);
    let (pulled, said) = daemon.client(&["pull", "hello"]);
    let log = std::fs::read_to_string(&daemon.log).unwrap_or_default();
    assert!(
        pulled && said.contains("Downloaded newer image"),
        "{said}{log}"
    );
}
