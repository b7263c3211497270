//! `Runner.Listener run`: waits for a job and has a worker run it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::args::{Arguments, INPUT};
use super::files::{self, Configured};
use super::http::{self, Reply, Server};
use super::{block_on, worker};

/// The real listener's exit codes.
const DONE: u8 = 0;
pub(super) const TERMINATED: u8 = 1;
const RETRYABLE: u8 = 2;
const SESSION_CONFLICT: u8 = 5;

/// How long one request may take; the server answers a poll within a few seconds.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the server may be away, or the session another's, before the listener gives up.
const BUDGET: Duration = Duration::from_secs(30);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// A listener in its session.
struct Listener<'a> {
    root: &'a Path,
    server: Server,
    configured: Configured,
    session: String,
    stop: Stop,
}

/// SIGINT or SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    seen: bool,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            seen: false,
        })
    }

    /// Ends when the listener was asked to stop, now or before.
    async fn wait(&mut self) {
        if !self.seen {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            self.seen = true;
        }
    }
}

/// Runs the listener until its end and gives its exit code.
pub(super) fn run(root: &Path, arguments: &Arguments) -> Result<u8, String> {
    if let Some(config) = arguments.value("jitconfig") {
        files::unpack(root, config)?;
    }
    let configured = files::configured(root)?;
    let nonce = files::nonce(root)?;
    let (server, _) = http::split(&configured.settings.server_url)?;
    block_on(async {
        let stop = Stop::new().map_err(|e| format!("cannot listen for signals: {e}"))?;
        let mut listener = Listener {
            root,
            server,
            configured,
            session: String::new(),
            stop,
        };
        let code = match listener.open(&nonce).await {
            Ok(()) => listener.listen(arguments.has("once")).await,
            Err(code) => code,
        };
        Ok(code)
    })?
}

impl Listener<'_> {
    /// Goes online.
    async fn open(&mut self, nonce: &str) -> Result<(), u8> {
        let hello = json!({
            "runner": self.configured.settings.agent_id,
            "secret": self.configured.secret,
            "nonce": nonce,
        });
        let deadline = Instant::now() + BUDGET;
        loop {
            let asked = self.server.post("/_runner/session", &hello, PATIENCE);
            let (why, code) = match asked.await {
                Ok(reply) if reply.status == 200 => {
                    let session = reply.body["session"].as_str().unwrap_or_default();
                    session.clone_into(&mut self.session);
                    println!("Connected to GitHub\nListening for Jobs");
                    return Ok(());
                }
                Ok(reply) if reply.status == 404 => {
                    eprintln!("the registration was deleted or has served its job");
                    return Err(TERMINATED);
                }
                Ok(reply) if reply.status == 409 && reply.body["final"] == true => {
                    eprintln!("the just-in-time config has served another listener");
                    return Err(SESSION_CONFLICT);
                }
                Ok(reply) if reply.status == 409 => (reply.message(), SESSION_CONFLICT),
                Ok(reply) => (reply.message(), RETRYABLE),
                Err(error) => (error, RETRYABLE),
            };
            if Instant::now() >= deadline {
                eprintln!("cannot make a session: {why}");
                return Err(code);
            }
            tokio::select! {
                () = self.stop.wait() => return Err(DONE),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Takes jobs until told to stop; an ephemeral runner takes one.
    async fn listen(&mut self, once: bool) -> u8 {
        let mut deadline = Instant::now() + BUDGET;
        loop {
            let body = json!({ "session": self.session });
            let reply = tokio::select! {
                biased;
                () = self.stop.wait() => {
                    self.goodbye().await;
                    return DONE;
                }
                reply = self.server.post("/_runner/poll", &body, PATIENCE) => reply,
            };
            match reply {
                Ok(Reply { status: 200, body }) => {
                    let ran = self.job(&body).await;
                    if ran && (once || self.configured.settings.ephemeral) {
                        return DONE;
                    }
                    deadline = Instant::now() + BUDGET;
                }
                Ok(Reply { status: 204, .. }) => deadline = Instant::now() + BUDGET,
                Ok(Reply { status: 404, .. }) => {
                    eprintln!("the session has ended or the registration was deleted");
                    return TERMINATED;
                }
                failed => {
                    if Instant::now() >= deadline {
                        eprintln!("the server stays away: {failed:?}");
                        return RETRYABLE;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Runs one job. False when it was taken back before it began.
    async fn job(&mut self, job: &Value) -> bool {
        let (id, name) = (&job["id"], job["name"].as_str().unwrap_or_default());
        let begun = self
            .report(&format!("/_runner/jobs/{id}/started"), None)
            .await;
        if !begun.is_some_and(|reply| reply.body["go"] == true) {
            return false;
        }
        println!("Running job: {name}");
        let conclusion = match self.work(job).await {
            Ok(conclusion) => conclusion,
            Err(error) => {
                eprintln!("the worker cannot be run: {error}");
                "failure"
            }
        };
        println!("Job {name} completed with result: {conclusion}");
        let path = format!("/_runner/jobs/{id}/completed");
        self.report(&path, Some(conclusion)).await;
        true
    }

    /// Says something until it is heard. None when the server stays away or knows the session no more.
    async fn report(&self, path: &str, conclusion: Option<&str>) -> Option<Reply> {
        let body = json!({ "session": self.session, "conclusion": conclusion });
        let deadline = Instant::now() + BUDGET;
        while Instant::now() < deadline {
            match self.server.post(path, &body, PATIENCE).await {
                Ok(reply) if reply.status == 404 => return None,
                Ok(reply) if reply.status < 300 => return Some(reply),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        None
    }

    /// Has a worker run the job; watches whether the job is cancelled.
    async fn work(&self, job: &Value) -> std::io::Result<&'static str> {
        let mut worker = self.worker()?;
        let mut input = worker.stdin.take();
        if let Some(input) = &mut input {
            let mut line = job.to_string();
            line.push('\n');
            input.write_all(line.as_bytes()).await?;
        }
        let path = format!("/_runner/jobs/{}/watch", job["id"]);
        let body = json!({ "session": self.session });
        let mut cancelled = false;
        loop {
            let watch = async {
                if cancelled {
                    return std::future::pending().await;
                }
                self.server.post(&path, &body, PATIENCE).await
            };
            tokio::select! {
                status = worker.wait() => {
                    let code = status?.code();
                    return Ok(worker::conclusion(code, cancelled));
                }
                reply = watch => match reply {
                    // Without its input the worker stops the job.
                    Ok(reply) if reply.status == 404 || reply.body["cancelled"] == true => {
                        cancelled = true;
                        drop(input.take());
                    }
                    Ok(reply) if reply.status == 200 => {}
                    _ => tokio::time::sleep(PAUSE).await,
                },
            }
        }
    }

    /// Starts a worker without the listener's inputs in its environment.
    fn worker(&self) -> std::io::Result<Child> {
        let mut command = Command::new(self.root.join("bin").join("Runner.Worker"));
        command
            .arg("spawnclient")
            .current_dir(self.root)
            .envs(files::environment(self.root))
            .env("RUNNER_NAME", &self.configured.settings.agent_name)
            .env("RUNNER_WORK_FOLDER", &self.configured.settings.work_folder)
            .stdin(Stdio::piped())
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(INPUT) {
                command.env_remove(name);
            }
        }
        command.spawn()
    }

    async fn goodbye(&self) {
        let body = json!({ "session": self.session });
        let patience = Duration::from_secs(2);
        if let Err(error) = self.server.post("/_runner/goodbye", &body, patience).await {
            eprintln!("goodbye was not heard: {error}");
        }
    }
}
