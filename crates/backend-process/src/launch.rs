//! Launching a runner: everything is written down before anything starts.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use runner_manager_core::{
    CloudInstance, CloudRunnerState, Effect, Error, ErrorKind, LaunchSpec, Result,
    RunnerCredential, RunnerName,
};
use tokio::process::{Child, Command};

use crate::api::{Native, file_error, late};
use crate::cgroup::Cgroup;
use crate::files::{self, make_dir};
use crate::host::Host;
use crate::lock::Lock;
use crate::record::{Phase, Record};
use crate::{end, environment, exchange, keyring, logs, runner_folder, scan};

const LAUNCH: &str = include_str!("scripts/launch.sh");
const ENTER: &str = include_str!("scripts/enter.sh");
const WRAPPER: &str = include_str!("scripts/wrapper.sh");
const PRE_JOB: &str = include_str!("scripts/pre-job.sh");

/// How long another task may hold the runner's lock.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a pipe takes at once, less room for `go`: the manager never waits for the launcher.
const MAX_SECRET: usize = 48 * 1024;

/// Launches a runner, or adopts what an earlier launch of its name has made. `cancelled` turns
/// true when nobody waits for the answer any more; before the runner has started, that undoes
/// the launch.
pub(crate) fn launch(
    host: &Host,
    spec: &LaunchSpec,
    cancelled: &AtomicBool,
) -> Result<CloudInstance> {
    environment::refuse_unsupported(&spec.support)?;
    let message = start_message(&spec.credential)?;
    let lock = Lock::take(&host.lock_path(&spec.name), Instant::now() + PATIENCE)?;
    match adopt(host, &spec.name) {
        Ok(Some(instance)) => return Ok(instance),
        Ok(None) => {}
        Err(error) => return Err(error.with_effect(Effect::Unknown)),
    }
    let begun = begin(host, spec, cancelled).and_then(|begun| begun.go(host, &message, cancelled));
    match begun {
        Ok(record) => Ok(CloudInstance {
            state: CloudRunnerState::Active,
            ..unseen(&record)
        }),
        Err(error) => Err(match end::purge(host, &spec.name, None) {
            Ok(()) => {
                lock.remove();
                error.with_effect(Effect::None)
            }
            Err(left) => error
                .with_effect(Effect::Partial)
                .with_context("not removed", left),
        }),
    }
}

/// An instance as it was just made.
fn unseen(record: &Record) -> CloudInstance {
    CloudInstance {
        name: record.name.clone(),
        native_id: record.native_id(),
        state: CloudRunnerState::Created,
        created_at: record.created_at,
        addresses: Vec::new(),
    }
}

/// What the launcher reads: `go`, and the secret on a line of its own.
fn start_message(credential: &RunnerCredential) -> Result<Vec<u8>> {
    let secret = match credential {
        RunnerCredential::JitConfig(config) => config,
        RunnerCredential::RegistrationToken { token, .. } => token,
        RunnerCredential::Claim { .. } => {
            let message = "a process claims no credential; give it one";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
    };
    let text = secret.expose();
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() || text.len() > MAX_SECRET || !plain {
        let message = "the runner's credential is empty, longer than 48 KiB, or holds what no \
                       credential of GitHub does; ask GitHub for another";
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    Ok(format!("go\n{text}\n").into_bytes())
}

/// What an earlier launch of this name has made, unless the runner never started: then it is
/// removed.
fn adopt(host: &Host, name: &RunnerName) -> Result<Option<CloudInstance>> {
    let record = host.record(name)?;
    if let Some(record) = &record {
        // A launcher whose manager crashed before `go` is about to end; one that heard it is
        // about to say so.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            // First this, then the look: what a dead launcher has left is final.
            let alive = record.main.is_some_and(scan::is_alive);
            match host.look(record)? {
                Native::Preparing | Native::Abandoned if !alive => break,
                Native::Preparing | Native::Abandoned if Instant::now() >= deadline => {
                    return Err(late(
                        "the launcher of an earlier launch neither starts nor ends",
                    ));
                }
                Native::Preparing | Native::Abandoned => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => return host.show(record).map(Some),
            }
        }
    }
    // Nearly always there is nothing, and no reason to look at every process of the machine.
    if record.is_some() || end::has_remains(host, name) {
        end::purge(host, name, record.as_ref())?;
    }
    Ok(None)
}

/// A launcher that waits for `go`. Dropped, it hears the end of its input and ends.
struct Begun {
    record: Record,
    input: File,
}

fn refuse_cancelled(cancelled: &AtomicBool) -> Result<()> {
    if cancelled.load(Ordering::Acquire) {
        Err(Error::new(
            ErrorKind::TimedOut,
            "nobody waits for the launch any more",
        ))
    } else {
        Ok(())
    }
}

fn begin(host: &Host, spec: &LaunchSpec, cancelled: &AtomicBool) -> Result<Begun> {
    files::check_free(&host.work_dir, host.config.min_free_bytes)?;
    refuse_cancelled(cancelled)?;
    let uid = match &host.users {
        Some(users) => {
            let alive = host.scanner.since(Instant::now(), scan::Markers::Skip)?;
            Some(users.claim(&spec.name, |uid| alive.iter().all(|seen| seen.uid != uid))?)
        }
        None => None,
    };
    let folder = host.folder(&spec.name);
    // The manager owns the folder, and only the runner's group may pass: no other runner reaches
    // anything below it, whatever modes the job gives its files.
    match uid {
        Some(uid) => files::make_dir_of_group(&folder, 0o710, uid)?,
        None => make_dir(&folder, 0o700, None)?,
    }
    let mut record = Record {
        name: spec.name.clone(),
        created_at: Timestamp::now(),
        phase: Phase::Preparing,
        uid,
        boot_id: host.boot_id.clone(),
        main: None,
    };
    record.store(&folder)?;
    fill(host, &folder, uid)?;
    refuse_cancelled(cancelled)?;
    let cgroup = match &host.cgroups {
        Some(groups) => Some(groups.create(&spec.name)?),
        None => None,
    };
    let (pid, input) = spawn(host, spec, &folder, uid, cgroup.as_ref())?;
    record.main = Some(scan::identity(pid)?);
    record.phase = Phase::Running;
    record.store(&folder)?;
    Ok(Begun { record, input })
}

impl Begun {
    fn go(mut self, host: &Host, message: &[u8], cancelled: &AtomicBool) -> Result<Record> {
        refuse_cancelled(cancelled)?;
        let folder = host.folder(&self.record.name);
        self.input.write_all(message).map_err(|error| {
            let log = logs::tail(&folder, 1024).ok().flatten().unwrap_or_default();
            let message = "the runner's launcher ended before its start";
            Error::new(ErrorKind::Local, message)
                .with_context("log", log.trim())
                .with_source(error)
        })?;
        Ok(self.record)
    }
}

/// Fills the folder of a runner.
fn fill(host: &Host, folder: &Path, uid: Option<u32>) -> Result<()> {
    for (name, mode) in [
        ("home", 0o700),
        ("tmp", 0o700),
        ("var-tmp", 0o700),
        (exchange::FOLDER, 0o700),
    ] {
        make_dir(&folder.join(name), mode, uid)?;
    }
    files::write(&folder.join("wrapper.sh"), WRAPPER, 0o755)?;
    files::write(&folder.join("pre-job.sh"), PRE_JOB, 0o755)?;
    if let Some(uid) = uid {
        let user = user_name(uid);
        let home = folder.join("home");
        let line = format!("{user}:x:{uid}:{uid}::{}:/bin/sh\n", home.display());
        extend(Path::new("/etc/passwd"), &folder.join("passwd"), &line)?;
        let line = format!("{user}:x:{uid}:\n");
        extend(Path::new("/etc/group"), &folder.join("group"), &line)?;
    }
    runner_folder::fill(&host.shared, &folder.join("runner"), uid)
}

fn user_name(uid: u32) -> String {
    format!("runner-{uid}")
}

/// A copy of a file of this machine with one more line.
fn extend(from: &Path, to: &Path, line: &str) -> Result<()> {
    let mut text =
        std::fs::read_to_string(from).map_err(|error| file_error("read", from, error))?;
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    files::write(to, &text, 0o644)
}

/// Starts the launcher: a session of its own, so that neither the manager's end nor its
/// terminal reach it. It waits for `go`.
fn spawn(
    host: &Host,
    spec: &LaunchSpec,
    folder: &Path,
    uid: Option<u32>,
    cgroup: Option<&Cgroup>,
) -> Result<(i32, File)> {
    let log = logs::create(folder, uid)?;
    let twin = log
        .try_clone()
        .map_err(|error| file_error("open the log in", folder, error))?;
    let user = match uid {
        Some(uid) => user_name(uid),
        None => "runner".to_owned(),
    };
    let marker = host.marker(&spec.name);
    let extra = &host.config.env;
    let mut env = environment::build(folder, &spec.name, &user, &marker, &spec.support, extra);
    if uid.is_none() {
        // Without a mount namespace of its own; what is left there goes with the folder.
        let tmp = folder.join("tmp").display().to_string();
        env.entry("TMPDIR".into()).or_insert(tmp);
    }
    let mut command = Command::new(&host.setsid);
    command
        .args(["/bin/sh", "-c", LAUNCH, "runner-manager"])
        .arg(folder)
        .arg(cgroup.map_or(Path::new(""), Cgroup::path))
        .arg(&host.shared)
        .arg(crate::connect::stage())
        .arg(uid.map(|uid| uid.to_string()).unwrap_or_default())
        .arg(ENTER)
        .args(wrapper_arguments(spec, folder))
        .env_clear()
        .envs(env)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(twin);
    let mut child = match uid {
        Some(_) => start_apart(&mut command),
        None => start(&mut command),
    }
    .map_err(|error| error.with_context("folder", folder.display()))?;
    let input = child
        .stdin
        .take()
        .and_then(|stdin| stdin.into_owned_fd().ok());
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    // Takes note of its end while this manager lives; afterwards the system's first process
    // does.
    tokio::spawn(async move { child.wait().await });
    match (pid, input) {
        (Some(pid), Some(input)) => Ok((pid, File::from(input))),
        _ => Err(Error::new(
            ErrorKind::Local,
            "the runner's launcher ended at once",
        )),
    }
}

fn start(command: &mut Command) -> Result<Child> {
    let _starting = files::STARTS
        .write()
        .unwrap_or_else(PoisonError::into_inner);
    command.spawn().map_err(|error| {
        Error::new(ErrorKind::Local, "cannot start `setsid` (of util-linux)").with_source(error)
    })
}

/// Starts it from a thread with a session keyring of its own.
fn start_apart(command: &mut Command) -> Result<Child> {
    let runtime = tokio::runtime::Handle::current();
    let thread = || {
        let _runtime = runtime.enter();
        keyring::leave_session()?;
        start(command)
    };
    let started = std::thread::scope(|scope| scope.spawn(thread).join());
    started.unwrap_or_else(|_| Err(Error::new(ErrorKind::Unexpected, "a thread failed")))
}

/// What the wrapper is told. No secret: those come through its input.
fn wrapper_arguments(spec: &LaunchSpec, folder: &Path) -> Vec<String> {
    let exchange = folder.join(exchange::FOLDER).display().to_string();
    match &spec.credential {
        RunnerCredential::JitConfig(_) | RunnerCredential::Claim { .. } => {
            vec!["jit".into(), exchange]
        }
        RunnerCredential::RegistrationToken { url, .. } => {
            let labels = &spec.github.labels;
            let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
            let group = spec.github.github_path.group().unwrap_or_default();
            vec![
                "token".into(),
                exchange,
                url.to_string(),
                spec.name.to_string(),
                labels.join(","),
                group.to_owned(),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_manager_core::Secret;

    #[test]
    fn credentials_that_would_break_the_line_are_refused() {
        let jit = |text: &str| start_message(&RunnerCredential::JitConfig(Secret::new(text)));
        assert_eq!(jit("abc+/=").unwrap(), b"go\nabc+/=\n");
        let long = "a".repeat(MAX_SECRET + 1);
        for bad in ["", "a\nb", "a b", "ü", long.as_str()] {
            let error = jit(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            assert!(bad.is_empty() || !format!("{error:?}").contains(bad));
        }
    }
}
